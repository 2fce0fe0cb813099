"""Verbs of other distributions: listed without an import, called, refused by name; zoo's own stay as they are."""

import subprocess
import sys
from importlib import metadata

import pytest

from zoo.cli.main import run
from zoo.cli.verbs import offered

GREET = """\
from typing import Annotated
import typer

def greet(context: typer.Context, name: str, loud: Annotated[bool, typer.Option()] = False) -> None:
    \"\"\"Greet somebody.\"\"\"
    typer.echo(f"hello {name.upper() if loud else name}, {context.obj.blocked}")
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install distributions that exist for this test alone: name, {verb: object}, modules' sources."""
    everywhere = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda: everywhere(path=[str(tmp_path)]))
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution, points, **modules):
        info = tmp_path / f"{distribution.replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1.0\n")
        lines = "".join(f"{name} = {target}\n" for name, target in points.items())
        (info / "entry_points.txt").write_text(f"[zoo.commands]\n{lines}")
        for name, source in modules.items():
            monkeypatch.delitem(sys.modules, name, raising=False)
            (tmp_path / f"{name}.py").write_text(source)

    yield install
    for name in [name for name in sys.modules if name.startswith("zoo_test_verb_")]:
        del sys.modules[name]


def test_a_distributions_verb_is_called_with_its_arguments_and_the_state(zoo, installed):
    installed("zoo-greet", {"greet": "zoo_test_verb_a:greet"}, zoo_test_verb_a=GREET)
    assert zoo("-p", "no:other", "greet", "you", "--loud") == (0, "hello YOU, ('other',)\n", "")
    status, out, _ = zoo("greet", "--help")
    assert (status, "Greet somebody." in out, "--loud" in out) == (0, True, True)


def test_its_own_refusals_are_clicks(zoo, installed):
    installed("zoo-greet", {"greet": "zoo_test_verb_a:greet"}, zoo_test_verb_a=GREET)
    status, out, err = zoo("greet", "you", "--quiet")
    assert (status, out, "No such option: --quiet" in err) == (2, "", True)


def test_a_group_of_verbs_may_be_offered(zoo, installed):
    group = f"{GREET}\napp = typer.Typer()\napp.command()(greet)\n@app.command()\ndef other() -> None: ...\n"
    installed("zoo-greet", {"say": "zoo_test_verb_b:app"}, zoo_test_verb_b=group)
    assert zoo("say", "greet", "you") == (0, "hello you, ()\n", "")
    status, _, err = zoo("say", "nothing")
    assert (status, err.startswith("Usage: zoo say ")) == (2, True)


def test_help_lists_verbs_after_zoos_own_and_imports_none(zoo, installed):
    installed("zoo-greet", {"greet": "zoo_test_verb_c:greet"}, zoo_test_verb_c="raise SystemExit('imported')")
    status, out, _ = zoo("--help")
    assert (status, "zoo_test_verb_c" in sys.modules) == (0, False)
    assert out.splitlines()[-3].split(maxsplit=1) == ["greet", "From zoo-greet 0.1.0."]
    _, out, _ = zoo("-p", "no:zoo-greet", "--help")
    assert "greet" not in out


def test_another_verb_imports_none(zoo, installed):
    installed("zoo-greet", {"greet": "zoo_test_verb_c:greet"}, zoo_test_verb_c="raise SystemExit('imported')")
    assert zoo("list", "head")[0] == 0
    assert "zoo_test_verb_c" not in sys.modules


def test_zoos_own_verb_wins(zoo, installed):
    installed("zoo-greet", {"list": "zoo_test_verb_c:greet"}, zoo_test_verb_c="raise SystemExit('imported')")
    assert zoo("list", "head")[0] == 0
    assert "zoo-greet" not in zoo("--help")[1]


def test_one_name_from_two_distributions_is_refused_until_one_is_left_out(zoo, installed):
    installed("zoo-a", {"greet": "zoo_test_verb_a:greet"}, zoo_test_verb_a=GREET)
    installed("zoo-b", {"greet": "zoo_test_verb_no:greet"})
    assert zoo("greet", "you") == (
        2,
        "",
        "error: the verb 'greet' is offered by zoo-a 0.1.0 and zoo-b 0.1.0\n"
        "  mend:  leave one out with `-p no:zoo-a` or `-p no:zoo-b`\n",
    )
    assert "From zoo-a 0.1.0 and zoo-b 0.1.0." in zoo("--help")[1]
    assert zoo("-p", "no:zoo-b", "greet", "you") == (0, "hello you, ('zoo-b',)\n", "")


@pytest.mark.parametrize("name", ["greet", "zoo-greet"])
def test_a_verb_that_is_left_out_is_refused(zoo, installed, name):
    installed("zoo-greet", {"greet": "zoo_test_verb_a:greet"}, zoo_test_verb_a=GREET)
    assert zoo("-p", f"no:{name}", "greet", "you") == (
        2,
        "",
        f"error: the verb 'greet' of zoo-greet 0.1.0 is left out\n  mend:  leave away -p no:{name}\n",
    )


BROKEN = {
    "no module": (None, "ModuleNotFoundError: No module named 'zoo_test_verb_d'"),
    "no function": ("", "AttributeError: module 'zoo_test_verb_d' has no attribute 'greet'"),
    "raises": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "no verb": ("greet = 3", "TypeError: a verb is a function or a typer.Typer, not int"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_verb_that_cannot_be_imported_is_refused_and_costs_no_other(zoo, installed, case):
    source, reason = BROKEN[case]
    modules = {} if source is None else {"zoo_test_verb_d": source}
    installed("zoo-greet", {"greet": "zoo_test_verb_d:greet"}, **modules)
    assert zoo("greet", "you") == (
        2,
        "",
        f"error: the verb 'greet' cannot be imported: {reason}\n  where: zoo-greet 0.1.0\n"
        "  mend:  pip install --force-reinstall zoo-greet, or pip uninstall zoo-greet\n",
    )
    assert zoo("--help")[0] == zoo("list", "head")[0] == 0


def test_ctrl_c_while_a_verb_is_imported_ends_the_command(zoo, installed):
    installed("zoo-greet", {"greet": "zoo_test_verb_e:greet"}, zoo_test_verb_e="raise KeyboardInterrupt")
    assert zoo("greet", "you") == (130, "", "interrupted\n")


def test_a_fault_of_the_verb_itself_is_a_traceback(installed):
    installed("zoo-greet", {"greet": "zoo_test_verb_f:greet"}, zoo_test_verb_f="def greet() -> None: 1 / 0")
    with pytest.raises(ZeroDivisionError):
        run(["greet"])


def test_serve_is_to_be_had(zoo, installed):
    status, out, err = zoo("serve", "here")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == "Error: No such command 'serve'. It is a plugin's: pip install zoo-serve"
    status, _, err = zoo("nothing")
    assert (status, err.splitlines()[-1]) == (2, "Error: No such command 'nothing'.")


def test_a_distribution_found_twice_offers_its_verb_once(installed, monkeypatch):
    installed("zoo-greet", {"greet": "zoo_test_verb_a:greet"})
    once = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda: [*once(), *once()])
    assert [verb.owner for verb in offered()["greet"]] == ["zoo-greet 0.1.0"]


def test_a_spoilt_entry_point_file_is_passed_over(zoo, installed, tmp_path):
    installed("spoilt", {})
    (tmp_path / "spoilt-0.1.0.dist-info" / "entry_points.txt").write_text("[zoo.commands]\nno equals sign\n")
    assert offered() == {}
    assert zoo("--help")[0] == 0


def test_a_shell_completes_the_verbs_name(capsys, installed, monkeypatch):
    installed("zoo-greet", {"greet": "zoo_test_verb_c:greet"}, zoo_test_verb_c="raise SystemExit('imported')")
    for name, value in (("_ZOO_COMPLETE", "complete_bash"), ("COMP_WORDS", "zoo gre"), ("COMP_CWORD", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        run([])
    assert (ended.value.code, capsys.readouterr().out) == (0, "greet\n")


def test_an_installed_verb_costs_help_no_import(tmp_path):
    code = "import sys; from zoo.cli.main import run; run(['--help']); print('zoo_serve' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
