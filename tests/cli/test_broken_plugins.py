"""Whatever is installed, every command works, in about its ordinary time, and names the culprits when it is asked."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.registry.fakes import BROKEN, head, install, install_broken

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
LIGHT = (["check", "a.toml"], ["list"], ["plugins"], ["schema"], ["weights", "list"])
VERBS = ("finetune", "check", "plan", "list", "devices", "plugins", "schema", "export", "verify", "evaluate", "audit")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders with nothing, with all that is broken, and with fifty good plugins; each with a recipe."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("none", "broken", "good")}
    install_broken(made["broken"])
    for number in range(50):
        install(
            made["good"], f"good-{number}", {f"g{number}": f"good_{number}"}, **{f"good_{number}": head(f"h{number}")}
        )
    for folder in made.values():
        (folder / "a.toml").write_text(RECIPE)
    return made


def call(folder, *arguments, **environment):
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    words = [sys.executable, "-m", "zoo", *arguments]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_a_command_works_with_all_that_is_broken(arguments, folders):
    done = call(folders["broken"], *arguments)
    assert (done.returncode, "Traceback" in done.stderr, "spoilt" in done.stdout) == (0, False, False)


def test_the_help_of_every_verb_imports_no_plugin(folders):
    for verb in ((), *((verb,) for verb in VERBS)):
        done = call(folders["broken"], *verb, "--help")
        assert (done.returncode, done.stderr) == (0, ""), verb


@pytest.mark.slow
@pytest.mark.parametrize("library", ["timm", "torchvision", "torch"])
def test_a_plugin_that_imports_much_does_not_tear_an_import_apart(library, tmp_path):
    install(tmp_path, "heavy", {"heavy": "heavy_plugin"}, heavy_plugin=f"import {library}\n" + head("heavy"))
    (tmp_path / "a.toml").write_text(RECIPE)
    done = call(tmp_path, "plan", "a.toml")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", ["plan", "finetune"])
def test_a_part_that_ends_the_process_is_no_success(verb, tmp_path):
    source = "import sys\n" + head("leaving").replace("a:b", "leaving_plugin:build") + "\ndef build(*_): sys.exit(0)\n"
    install(tmp_path, "leaving", {"leaving": "leaving_plugin"}, leaving_plugin=source)
    (tmp_path / "a.toml").write_text(RECIPE + '[head]\nuse = "leaving"\n')
    done = call(tmp_path, verb, "a.toml")
    assert done.returncode == 1
    assert done.stderr == "error: a part of a plugin ended the process with sys.exit(0)\n"


def test_the_culprits_are_named(folders):
    done = call(folders["broken"], "plugins", "doctor", "--json")
    found = json.loads(done.stdout)
    assert {row["distribution"] for row in found if row["fails"]} >= {*BROKEN}
    assert all(row["mend"] for row in found)
    assert done.returncode == 2


def test_a_slow_one_holds_up_no_exit_and_says_nothing(folders):
    done = call(folders["broken"], "list", "head", "linear", ZOO_PLUGINS=",".join(BROKEN))
    assert (done.returncode, done.stdout.split()[0]) == (0, "linear")
    assert sorted(done.stderr.splitlines()) == [
        "not listed: zz-sleeps (zz-sleeps 1.0) is slow (see `zoo plugins`)", "spoilt", "spoilt",
    ]  # fmt: skip


def seconds(folder, *arguments):
    started = time.perf_counter()
    assert call(folder, *arguments).returncode == 0
    return time.perf_counter() - started


def difference(one, other, *arguments, times=3):
    """How much longer a command takes in the other folder, at best: taken in turn, beside whatever else runs."""
    pairs = [(seconds(one, *arguments), seconds(other, *arguments)) for _ in range(times)]
    return min(pair[1] for pair in pairs) - min(pair[0] for pair in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [*LIGHT, ["--help"]], ids=" ".join)
def test_what_is_broken_costs_less_than_a_second(arguments, folders):
    assert difference(folders["none"], folders["broken"], *arguments) < 1


@pytest.mark.slow
def test_a_heavy_command_works_with_all_that_is_broken(folders):
    done = call(folders["broken"], "plan", "a.toml", "--json")
    assert (done.returncode, json.loads(done.stdout)["name"]) == (0, "a")


@pytest.mark.slow
def test_fifty_plugins_cost_help_less_than_50_ms(folders):
    assert difference(folders["none"], folders["good"], "--help", times=9) < 0.05
