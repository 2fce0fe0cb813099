"""Verbs that need no torch: check, list, plugins, schema, and the options before a verb."""

import json
import re
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator

from tests.registry.fakes import install
from zoo import __version__
from zoo.cli.main import run

RECIPE = """\
format = 1
[run]
name = "a"
epochs = 1
[backbone]
use = "timm"
arch = "test_resnet"
[data]
use = "digits"
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(RECIPE)
    return path


def test_version(zoo):
    assert zoo("--version") == (0, f"zoo {__version__}\n", "")


def test_help_names_the_verbs_in_a_newcomers_order(zoo):
    status, out, _ = zoo("--help")
    verbs = ["finetune", "check", "list", "plugins", "schema", "export", "evaluate", "predict"]
    places = [out.index(f"\n  {verb} ") for verb in verbs]
    assert status == 0
    assert places == sorted(places)


def test_an_unknown_verb_or_option_is_refused(zoo):
    status, _, err = zoo("fintune")
    assert (status, "fintune" in err) == (2, True)
    status, _, err = zoo("list", "--colour")
    assert (status, "--colour" in err) == (2, True)


def test_check_says_ok(zoo, recipe):
    assert zoo("check", recipe) == (0, f"{recipe}: ok\n", "")


def test_check_says_all_errors_of_all_recipes(zoo, recipe, tmp_path):
    other = tmp_path / "b.toml"
    other.write_text(RECIPE.replace("epochs", "epoch"))
    status, out, err = zoo("check", recipe, other)
    assert (status, out) == (2, f"{recipe}: ok\n")
    assert err == (
        f"error: [run] needs the key 'epochs'\n  where: {other}:2, key run.epochs\n"
        "  mend:  Passes over the training images.\n"
        f"error: [run] has no key 'epoch'\n  where: {other}:4, key run.epoch\n  mend:  did you mean 'epochs'?\n"
        "2 errors\n"
    )


def test_check_gives_json(zoo, recipe):
    status, out, err = zoo("check", recipe, "--set", "run.epochs=0", "--json")
    assert (status, err) == (2, "")
    assert json.loads(out) == {
        str(recipe): [
            {
                "what": "run.epochs = 0: input should be greater than or equal to 1",
                "where": "--set run.epochs=0",
                "hint": "Passes over the training images.",
            }
        ]
    }


def test_list_names_every_kind_and_filters(zoo):
    status, out, _ = zoo("list")
    assert status == 0
    assert {line.split()[0] for line in out.splitlines()} == {
        "backbone", "head", "weights", "data", "freeze", "device", "export", "callback",
    }  # fmt: skip
    status, out, _ = zoo("list", "freeze", "z*", "--json")
    (part,) = json.loads(out)
    assert (part["kind"], part["name"], part["owner"].split()[0]) == ("freeze", "zero-lr", "zoo")


def test_list_looks_inside_a_part(zoo):
    status, out, _ = zoo("list", "backbone", "torchvision/resnet1*")
    assert (status, out) == (0, "torchvision/resnet101\ntorchvision/resnet152\ntorchvision/resnet18\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "backbon"], "error: there is no kind of part 'backbon'\n  mend:  did you mean 'backbone'?\n"),
        (["list", "head", "x*"], "error: no part matches 'x*'\n  mend:  one of: linear\n"),
        (
            ["list", "backbone", "torchvision/resnet1"],
            "error: nothing matches 'torchvision/resnet1'\n  mend:  did you mean 'torchvision/resnet18' or "
            "'torchvision/resnet152' or 'torchvision/resnet101'?\n",
        ),
        (
            ["-p", "zoo-x", "list"],
            "error: -p zoo-x is not understood\n"
            "  mend:  -p no:NAME leaves out the plugin NAME, -p FILE.py takes the parts of a file\n",
        ),
    ],
)
def test_refusals(zoo, arguments, message):
    assert zoo(*arguments) == (2, "", message)


def test_plugins_lists_zoo_itself(zoo):
    status, out, _ = zoo("plugins", "--json")
    mine = [plugin for plugin in json.loads(out) if plugin["plugin"] == "zoo"]
    assert (status, mine[0]["state"], mine[0]["version"]) == (0, "ok", __version__)
    assert "head linear" in mine[0]["parts"]


def test_plugins_says_why_one_is_broken_and_one_is_left_out(zoo, tmp_path, monkeypatch):
    info = tmp_path / "bad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zoo]\nbad = no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    status, out, _ = zoo("plugins")
    assert (status, re.sub(r"\d\.\d\d s", "…", out.splitlines()[1]).split(maxsplit=5)) == (
        0,
        ["bad", "bad", "1.0", "broken", "…", "ModuleNotFoundError: No module named 'no_such_module_at_all'"],
    )
    _, out, _ = zoo("-p", "no:bad", "plugins")
    assert out.splitlines()[1].split() == ["bad", "bad", "1.0", "blocked", "0.00", "s", "-p", "no:bad"]


def test_schema_is_a_schema(zoo):
    status, out, _ = zoo("schema")
    Draft202012Validator.check_schema(json.loads(out))
    assert status == 0


def test_a_shell_can_complete(capsys, monkeypatch):
    monkeypatch.setenv("_ZOO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "zoo fin")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit) as ended:
        run([])
    assert (ended.value.code, capsys.readouterr().out) == (0, "finetune\n")


def test_output_cut_short_is_no_failure():
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0
    process.stderr.close()


def test_leaving_out_what_nobody_has_is_refused(zoo, tmp_path, monkeypatch):
    install(tmp_path, "my-kettle", {"kettle": "kettle_plugin"})
    monkeypatch.syspath_prepend(tmp_path)
    status, out, err = zoo("-p", "no:ketle", "list")
    assert (status, out) == (2, "")
    assert err.startswith(
        "error: the plugin 'ketle' is not installed\n  where: -p no:NAME\n  mend:  did you mean 'kettle'"
    )
