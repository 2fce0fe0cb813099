"""The ways to run the checks: a function a kind, pytest's fixture, and `zoo plugins test`."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.registry.fakes import install
from tests.testing.faulty import backbones, heads
from zoo import testing
from zoo.registry import kinds
from zoo.testing import ConformanceError, check_backbone, check_head
from zoo.testing.cases import checks_of

LIGHT = """\
import zoo

@zoo.hookimpl
def zoo_freeze_policies():
    return [zoo.FreezePart("everything", build="{module}:build", summary="train everything")]

def build(options):
    return lambda layout, epoch: dict.fromkeys(layout.parameters, 1.0)
"""
HEAVY = LIGHT.format(module="zoo_kit_heavy") + "import numpy\nprint('hello')\n"


@pytest.fixture
def site(tmp_path, monkeypatch, root):
    """A folder on the path of this process and of those that it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{root}")
    yield folder
    for name in [name for name in sys.modules if name.startswith("zoo_kit_")]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
def test_every_kind_has_a_check_and_each_says_what_and_why(kind):
    assert f"check_{kind.name}" in testing.__all__
    names = [check.name for check in checks_of(kind)]
    assert len(names) == len(set(names)) >= 12
    assert all(check.expected and check.why for check in checks_of(kind))


def test_a_part_that_holds_to_everything_passes():
    check_head(heads.PART, slow=False)


def test_a_part_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="^'faulty' is a head, not a backbone$"):
        check_backbone(heads.PART)


def test_all_that_fails_is_said_with_the_options():
    with pytest.raises(ConformanceError) as caught:
        check_head(heads.PART, {"fault": "another metric name"}, slow=False)
    assert str(caught.value) == (
        "metrics declared\n"
        "  expected: metrics ['accuracy']\n"
        "  came:     ['acc']\n"
        "  because:  `best_by` chooses a checkpoint by these names and directions"
    )
    with_options, further = caught.value.__notes__
    assert with_options == "with Faulty(fault='another metric name')"
    assert further.startswith("metrics right\n  expected: Better values for right predictions")


def test_options_without_defaults_need_examples():
    part = replace(backbones.PART, examples="tests.testing.test_cases:no_examples")
    with pytest.raises(ConformanceError) as caught:
        check_backbone(part, slow=False)
    assert str(caught.value) == (
        "examples\n"
        "  expected: options to build the part with\n"
        "  came:     OSError: no photos\n"
        "  because:  the checks build the part with them; name a function with `examples=` where there are no defaults"
    )


def no_examples(folder):
    raise OSError("no photos")


@pytest.mark.parametrize(
    ("examples", "came"),
    [
        ("tests.testing.test_cases:nothing", "none"),
        ("zoo_no_such_module:examples", "PluginError: backbone 'faulty' cannot be built: No module named"),
        ("tests.testing.test_cases:leave", "SystemExit: 0"),
    ],
)
def test_examples_that_are_none(examples, came):
    with pytest.raises(ConformanceError) as caught:
        check_backbone(replace(backbones.PART, examples=examples), slow=False)
    assert str(caught.value).startswith(f"examples\n  expected: options to build the part with\n  came:     {came}")


def nothing(folder):
    return []


def leave(folder):
    sys.exit(0)


def test_the_process_is_as_it_was_whatever_a_part_did():
    import torch

    with pytest.raises(ConformanceError):
        check_backbone(backbones.PART, {"fault": "changes the default dtype"}, slow=False)
    assert torch.get_default_dtype() == torch.float32


def test_a_light_plugin_passes(zoo, site):
    install(site, "zoo-kit-light", {"light": "zoo_kit_light"}, zoo_kit_light=LIGHT.format(module="zoo_kit_light"))
    status, out, err = zoo("plugins", "test", "light")
    assert (status, err) == (0, "")
    assert out == (
        "plugin light: 4 ok\nfreeze everything: 12 ok, 1 not tried\n  adapter: the policy adds no parameters\n"
    )


def test_a_heavy_plugin_is_told_what_it_imports_and_to_say_its_api(zoo, site):
    install(site, "zoo-kit-heavy", {"heavy": "zoo_kit_heavy"}, api={}, zoo_kit_heavy=HEAVY)
    status, out, err = zoo("plugins", "test", "zoo-kit-heavy", "--fast", "--json")
    failed = {row["check"]: row["reason"] for row in json.loads(out) if row["outcome"] == "failed"}
    assert (status, err) == (2, "hello\n")
    assert list(failed) == ["light import", "api version"]
    assert "it imports numpy; " in failed["light import"]
    assert "it prints 'hello" in failed["light import"]
    assert failed["api version"] == (
        "api version\n"
        "  expected: the version of zoo's plugin API that it was built for, in the entry-point group zoo.api\n"
        "  came:     nothing\n"
        "  because:  a zoo that is too old or too new says so in a line, instead of failing in the middle of a run"
    )


def test_a_broken_plugin_fails(zoo, site):
    install(site, "zoo-kit-broken", {"broken": "zoo_kit_none"})
    status, out, err = zoo("plugins", "test", "broken")
    assert (status, err) == (2, "")
    assert "came:     broken: ModuleNotFoundError: No module named 'zoo_kit_none'" in out


def test_all_of_one_name_are_tried_and_each_once(zoo, site):
    light = {name: LIGHT.format(module=name).replace("everything", name) for name in ("zoo_kit_a", "zoo_kit_b")}
    install(site, "zoo-kit-one", {"twin": "zoo_kit_a", "other": "zoo_kit_b"}, **light)
    install(site, "zoo-kit-two", {"twin": "zoo_kit_c"}, zoo_kit_c=LIGHT.format(module="zoo_kit_c"))

    def tried(*names):
        _, out, _ = zoo("plugins", "test", *names, "--fast", "--json")
        return list(dict.fromkeys(row["about"] for row in json.loads(out) if row["about"].startswith("freeze ")))

    assert tried("twin", "twin") == ["freeze zoo_kit_a", "freeze everything"]
    assert tried("Zoo_Kit.One") == ["freeze zoo_kit_b", "freeze zoo_kit_a"]


def test_a_plugin_that_is_left_out_is_not_tried(zoo, site):
    install(site, "zoo-kit-light", {"light": "zoo_kit_light"}, zoo_kit_light=LIGHT.format(module="zoo_kit_light"))
    status, out, err = zoo("-p", "no:light", "plugins", "test", "light", "--fast")
    assert (status, err) == (0, "")
    assert "  loads: it is left out\n" in out


def test_a_name_of_zoos_own_is_told(zoo, site):
    source = LIGHT.format(module="zoo_kit_light").replace('"everything"', '"none"')
    install(site, "zoo-kit-light", {"light": "zoo_kit_light"}, zoo_kit_light=source)
    status, out, _ = zoo("plugins", "test", "light", "--fast")
    assert status == 2
    assert (
        "  failed: names\n      expected: names of parts that none of zoo's own has\n      came:     freeze none\n"
    ) in out


def test_an_unknown_plugin_gets_the_nearest(zoo, site):
    install(site, "zoo-kit-light", {"lightly": "zoo_kit_light"}, zoo_kit_light=LIGHT.format(module="zoo_kit_light"))
    status, out, err = zoo("plugins", "test", "lihgtly")
    assert (status, out) == (2, "")
    assert err == "error: there is no plugin 'lihgtly'\n  mend:  did you mean 'lightly'?\n"


TESTS = """\
import pytest

@pytest.mark.zoo_plugin("light")
def test_it_conforms(zoo_case):
    zoo_case.run()
"""


def pytest_of(folder, text):
    (folder / "test_light.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-rs",
        "-c",
        "/dev/null",
        "--rootdir",
        folder,
        folder,
    ]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_pytest_runs_a_case_for_every_check(site, tmp_path):
    install(site, "zoo-kit-light", {"light": "zoo_kit_light"}, zoo_kit_light=LIGHT.format(module="zoo_kit_light"))
    (tmp_path / "tests").mkdir()
    done = pytest_of(tmp_path / "tests", TESTS)
    assert done.returncode == 0, done.stdout
    assert "the policy adds no parameters" in done.stdout
    assert "16 passed, 1 skipped" in done.stdout


def test_pytest_is_told_which_plugin(tmp_path):
    done = pytest_of(tmp_path, "def test_it_conforms(zoo_case): ...\n")
    assert done.returncode != 0
    assert 'test_light.py::test_it_conforms: say which plugin: @pytest.mark.zoo_plugin("my_plugin")' in done.stdout
