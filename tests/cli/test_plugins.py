"""`zoo plugins`, `zoo plugins doctor`, and the options and the variable that say which plugins count."""

import json
import re
import sys

import pytest

from tests.registry.fakes import head, install
from zoo import __version__
from zoo.cli.state import State
from zoo.errors import ZooError

RECIPE = """\
format = 1
[run]
name = "a"
epochs = 1
[backbone]
use = "timm"
arch = "test_resnet"
[head]
use = "cosine"
[data]
use = "digits"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on the path, and no plugins but those that a test installs there."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


@pytest.fixture(autouse=True)
def forgotten():
    """The modules that a test made are no later test's."""
    yield
    for name in [name for name in sys.modules if name.startswith("zoo_test_cli_")]:
        del sys.modules[name]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(RECIPE)
    return path


def of(out, *distributions):
    """The rows of these distributions, without their times."""
    rows = [re.sub(r"\d\.\d\d s", "…", line) for line in out.splitlines()]
    return [re.split(r" {2,}", row) for row in rows if row.split()[1] in distributions]


def test_the_table_says_what_each_offers_and_what_is_wrong(zoo, folder):
    install(folder, "zoo-a", {"a": "zoo_test_cli_a"}, zoo_test_cli_a=head("cosine"))
    install(folder, "zoo-b", {"b": "zoo_test_cli_b"}, zoo_test_cli_b=head("cosine"))
    install(folder, "zoo-c", {"c": "zoo_test_cli_no"})
    install(folder, "zoo-d", {"d": "zoo_test_cli_d"}, zoo_test_cli_d=head("other"))
    status, out, err = zoo("-p", "no:d", "plugins")
    assert (status, err) == (0, "")
    assert of(out, "zoo-a", "zoo-b", "zoo-c", "zoo-d") == [
        ["a", "zoo-a", "1.0", "clash", "…", "head cosine with b (zoo-b 1.0); head cosine"],
        ["b", "zoo-b", "1.0", "clash", "…", "head cosine with a (zoo-a 1.0); head cosine"],
        ["c", "zoo-c", "1.0", "broken", "…", "ModuleNotFoundError: No module named 'zoo_test_cli_no'"],
        ["d", "zoo-d", "1.0", "blocked", "…", "-p no:d"],
    ]


def test_json_has_everything(zoo, folder):
    source = "print('noise')\nimport zoo_test_cli_missing\n"
    install(folder, "zoo-a", {"a": "zoo_test_cli_a"}, zoo_test_cli_a=source)
    status, out, err = zoo("plugins", "--json")
    (found,) = [row for row in json.loads(out) if row["plugin"] == "a"]
    assert (status, err, found.pop("seconds") < 1) == (0, "noise\n", True)
    assert found == {
        "plugin": "a",
        "distribution": "zoo-a",
        "version": "1.0",
        "state": "broken",
        "reason": "ModuleNotFoundError: No module named 'zoo_test_cli_missing'",
        "where": f"{folder / 'zoo_test_cli_a.py'}:2",
        "api": "v1_0",
        "shadowed": [],
        "parts": [],
    }


def test_the_doctor_says_how_to_mend_each(zoo, folder, monkeypatch):
    monkeypatch.setenv("ZOO_PLUGINS", "zoo-a,zoo-b,zoo-c,zoo-d,zoo-e,zoo-f")
    install(folder, "zoo-a", {"a": "zoo_test_cli_a"}, zoo_test_cli_a=head("cosine"))
    install(folder, "zoo-b", {"b": "zoo_test_cli_b"}, zoo_test_cli_b=head("cosine"))
    install(folder, "zoo-c", {"c": "zoo_test_cli_c"}, zoo_test_cli_c="import zoo\nfrom zoo import nothing_such\n")
    install(folder, "zoo-d", {"d": "zoo_test_cli_d"}, zoo_test_cli_d="import zoo_test_cli_missing.deeper\n")
    install(folder, "zoo-e", {"e": "zoo_test_cli_e"}, zoo_test_cli_e="from json import nothing_such\n")
    install(folder, "zoo-f", {"f": "zoo_test_cli_f"}, api={"f": "v1_9"}, zoo_test_cli_f=head("late"))
    status, out, err = zoo("plugins", "doctor", "-p", "no:onnx")
    assert (status, err) == (2, "")
    expected = [
        "a (zoo-a 1.0): clash: head cosine with b (zoo-b 1.0); its other parts work",
        "  mend       `-p no:a` or `-p no:b`, or uninstall one: pip uninstall zoo-a or pip uninstall zoo-b",
        "b (zoo-b 1.0): clash: head cosine with a (zoo-a 1.0); its other parts work",
        "  mend       `-p no:b` or `-p no:a`, or uninstall one: pip uninstall zoo-a or pip uninstall zoo-b",
        "c (zoo-c 1.0): broken: ImportError: cannot import name 'nothing_such' from 'zoo' "
        f"({sys.modules['zoo'].__file__})",
        f"  where      {folder / 'zoo_test_cli_c.py'}:2",
        "  mend       pip install -U zoo-c; if that is the newest, pip install -U zoo-finetune",
        "d (zoo-d 1.0): broken: ModuleNotFoundError: No module named 'zoo_test_cli_missing'",
        f"  where      {folder / 'zoo_test_cli_d.py'}:1",
        "  mend       pip install zoo_test_cli_missing, or whichever distribution has the module "
        "'zoo_test_cli_missing'",
        "e (zoo-e 1.0): broken: ImportError: cannot import name 'nothing_such' from 'json' "
        f"({sys.modules['json'].__file__})",
        f"  where      {folder / 'zoo_test_cli_e.py'}:1",
        "  mend       pip install -U zoo-e, or downgrade json",
        "f (zoo-f 1.0): broken: built for zoo's plugin API 1.9, this zoo has 1.0: pip install -U zoo-finetune",
        "  mend       pip install -U zoo-finetune",
    ]
    assert out[out.index("a (zoo-a 1.0)") :].splitlines()[: len(expected)] == expected
    status, out, _ = zoo("plugins", "doctor", "--json")
    assert (status, [row["fails"] for row in json.loads(out) if row["plugin"] == "f"]) == (2, [True])


def test_the_doctor_has_nothing_to_say_when_all_is_well(zoo, monkeypatch, folder):
    install(folder, "zoo-a", {"a": "zoo_test_cli_a"}, zoo_test_cli_a=head("cosine"))
    from zoo.registry import registry

    everything = registry.entry_point_candidates
    mine = ("zoo-a",)
    monkeypatch.setattr(
        registry, "entry_point_candidates", lambda *_: [one for one in everything() if one.owner.distribution in mine]
    )
    assert zoo("plugins", "doctor") == (0, "all 2 plugins are ok\n", "")
    assert zoo("plugins", "doctor", "--json") == (0, "[]\n", "")
    assert zoo("plugins", "doctor", "-p", "no:a") == (
        0,
        "a (zoo-a 1.0): blocked: -p no:a\n  mend       leave away -p no:a\n",
        "",
    )


def test_the_doctor_names_no_distribution_to_uninstall_where_files_clash(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ZOO_PLUGINS", "")
    monkeypatch.chdir(tmp_path)
    for name in ("zoo_test_cli_one", "zoo_test_cli_two"):
        (tmp_path / f"{name}.py").write_text(head("cosine"))
    status, out, err = zoo("plugins", "doctor", "-p", "zoo_test_cli_one.py", "-p", "zoo_test_cli_two.py")
    assert (status, err) == (2, "")
    assert [line for line in out.splitlines() if "zoo_test_cli" in line and "mend" in line] == [
        "  mend       `-p no:zoo_test_cli_one` or `-p no:zoo_test_cli_two`",
        "  mend       `-p no:zoo_test_cli_two` or `-p no:zoo_test_cli_one`",
    ]


def test_a_file_in_two_spellings_is_no_clash(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ZOO_PLUGINS", "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo_test_cli_parts.py").write_text(head("cosine"))
    status, out, err = zoo("-p", "zoo_test_cli_parts.py", "plugins", "--json", "-p", "./zoo_test_cli_parts.py")
    found = [row for row in json.loads(out) if row["plugin"] == "zoo_test_cli_parts"]
    assert (status, err, [row["state"] for row in found]) == (0, "", ["ok"])


def test_no_before_a_files_name_leaves_it_out():
    assert State.of(["no:foo.py", "bar.py", "no:onnx"]) == State(("foo.py", "onnx"), ("bar.py",))
    for setting in ("no:", "foo"):
        with pytest.raises(ZooError) as caught:
            State.of([setting])
        assert str(caught.value) == (
            f"-p {setting} is not understood\n"
            "  mend:  -p no:NAME leaves out the plugin NAME, -p FILE.py takes the parts of a file"
        )


@pytest.mark.parametrize("words", [["list", "head"], ["schema"]], ids=" ".join)
def test_a_slow_plugin_is_said_not_to_be_listed(zoo, folder, words, monkeypatch):
    monkeypatch.setenv("ZOO_PLUGINS", "zoo-a")
    install(folder, "zoo-a", {"a": "zoo_test_cli_a"}, zoo_test_cli_a="import time\ntime.sleep(3)\n")
    status, out, err = zoo(*words)
    assert (status, "linear" in out, err) == (0, True, "not listed: a (zoo-a 1.0) is slow (see `zoo plugins`)\n")


@pytest.mark.parametrize("before", [True, False], ids=["before the verb", "after it"])
def test_a_file_is_a_plugin_for_the_verbs(zoo, recipe, tmp_path, before, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo_test_cli_parts.py").write_text(head("cosine"))
    option = ("--plugin", "./zoo_test_cli_parts.py")

    def call(*words):
        return zoo(*option, *words) if before else zoo(*words, *option)

    status, _, err = zoo("check", recipe)
    assert (status, err.startswith("error: there is no head 'cosine'\n")) == (2, True)
    assert call("check", recipe) == (0, f"{recipe}: ok\n", "")
    status, out, _ = call("list", "head", "cosine", "--json")
    assert re.fullmatch(
        r"zoo_test_cli_parts \(\./zoo_test_cli_parts\.py, sha256 [0-9a-f]{8}\)", json.loads(out)[0]["owner"]
    )
    status, out, _ = call("plugins", "--json")
    assert [row["parts"] for row in json.loads(out) if row["plugin"] == "zoo_test_cli_parts"] == [["head cosine"]]
    assert '"cosine"' in call("schema")[1]


def test_a_broken_file_says_why_where_it_is_needed(zoo, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo_test_cli_broken.py").write_text("1 / 0\n")
    status, _, err = zoo("check", recipe, "-p", "zoo_test_cli_broken.py", "-p", "no:onnx")
    assert status == 2
    assert re.search(
        r"not loaded: .*zoo_test_cli_broken \(zoo_test_cli_broken\.py, sha256 [0-9a-f]{8}\): "
        r"ZeroDivisionError: division by zero \(see `zoo plugins`\)\n$",
        err,
    )


def test_the_variable_holds_for_verbs_of_other_distributions(zoo, folder, monkeypatch):
    verb = "def greet() -> None: print('hello')\n"
    install(
        folder, "zoo-a", {"a": "zoo_test_cli_a"}, verbs={"zootestgreet": "zoo_test_cli_v:greet"}, zoo_test_cli_v=verb
    )
    assert zoo("zootestgreet") == (0, "hello\n", "")
    for value in ("a", "zoo-a", "zootestgreet"):
        monkeypatch.setenv("ZOO_PLUGINS", value)
        assert zoo("zootestgreet") == (0, "hello\n", "")
    monkeypatch.setenv("ZOO_PLUGINS", "")
    assert zoo("zootestgreet") == (
        2,
        "",
        "error: the verb 'zootestgreet' of zoo-a 1.0 is left out\n  mend:  leave away ZOO_PLUGINS=\n",
    )
    assert "zootestgreet" not in zoo("--help")[1]


def test_an_unknown_name_in_the_variable_is_refused(zoo, monkeypatch):
    monkeypatch.setenv("ZOO_PLUGINS", "zoo-finetun")
    assert zoo("list")[0] == 2
    monkeypatch.setenv("ZOO_PLUGINS", "zoo-finetune")
    status, out, _ = zoo("plugins", "--json")
    assert (status, json.loads(out)[0]["version"]) == (0, __version__)
