"""A run that is stopped goes on to the same bits. Real processes, real signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.runs.conftest import write_photos, write_recipe
from zoo.cli.main import run


def start(recipe, out, *arguments):
    command = [sys.executable, "-m", "zoo", "finetune", str(recipe), "--out", str(out), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists():
            return
        time.sleep(0.02)
    raise TimeoutError(path)


def wait_for_the_end_of(group, seconds=10):
    """Of every process in a group: the loader's end with the run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise TimeoutError(group)


def tensors(folder):
    """Copies: safetensors maps the file, and a test may damage it."""
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    found = {file.stem: load_file(file) for file in newest.glob("*.safetensors")}
    return {f"{stem}/{name}": tensor.clone() for stem, group in found.items() for name, tensor in group.items()}


def assert_same_run(first, second):
    assert (first / "metrics.jsonl").read_text() == (second / "metrics.jsonl").read_text()
    one, two = tensors(first), tensors(second)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


SETS = [
    "--set",
    "run.epochs=40",
    "--set",
    "run.ema=0.9",
    "--set",
    "export=[{use='safetensors',weights='ema'}]",
    "--set",
    "data.augment=standard",
    "--set",
    "head.dropout=0.2",
]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    recipe = write_recipe(folder, write_photos(folder / "photos"))
    assert run(["finetune", str(recipe), "--out", str(folder / "whole"), *SETS]) == 0
    return folder / "whole"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_says_how_to_go_on_and_the_rest_is_the_same_run(
    zoo, recipe, tmp_path, uninterrupted, number, status
):
    """It reaches the whole group, loader processes included, as from a terminal or Slurm."""
    out = tmp_path / "cut"
    process = start(recipe, out, *SETS, "--set", "data.workers=2")
    wait_for(out / "checkpoints" / "index.json")
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status
    assert err.startswith("error: stopped after step ")
    command = f"zoo finetune --resume {out}"
    assert err.endswith(f"  mend:  {command}\n")
    assert len(err.splitlines()) == 2
    assert len((out / "metrics.jsonl").read_text().splitlines()) < 40
    assert zoo(*command.split()[1:])[0] == 0
    assert_same_run(uninterrupted, out)


def test_kill_9_costs_at_most_an_epoch_and_the_rest_is_the_same_run(zoo, recipe, tmp_path, uninterrupted):
    out = tmp_path / "killed"
    process = start(recipe, out, *SETS, "--set", "data.workers=2")
    wait_for(out / "checkpoints" / "index.json")
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    wait_for_the_end_of(process.pid)
    assert zoo("finetune", "--resume", out)[0] == 0
    assert_same_run(uninterrupted, out)


def test_a_damaged_checkpoint_is_said_and_passed_over(zoo, recipe, tmp_path):
    out = tmp_path / "run"
    assert zoo("finetune", recipe, "--out", out)[0] == 0
    whole = tensors(out)
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    file = newest / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    status, said, _ = zoo("finetune", recipe, "--out", out, "--resume")
    assert status == 0
    assert f"damaged      {newest.name}: model.safetensors differs from its SHA-256; passed over" in said
    again = tensors(out)
    assert [name for name in whole if not torch.equal(whole[name], again[name])] == []
    assert json.loads((newest / "state.json").read_text())["progress"]["epoch"] == 2


def test_a_second_run_in_the_folder_is_refused_while_the_first_goes_on(zoo, recipe, tmp_path):
    out = tmp_path / "run"
    process = start(recipe, out, "--set", "run.epochs=400")
    wait_for(out / "checkpoints" / "index.json")
    refused = [zoo("finetune", recipe, "--out", out, *how) for how in ([], ["--resume"], ["--overwrite"])]
    process.kill()
    process.communicate()
    for status, said, err in refused:
        assert (status, said) == (2, "")
        assert re.fullmatch(
            rf"error: a run is going on in '{out}': process {process.pid} on \S+ since [\d-]+ [\d:]+\n"
            r"  mend:  wait for it or stop it, or choose another folder with --out\n",
            err,
        )
    assert zoo("finetune", recipe, "--out", out, "--overwrite")[0] == 0


def test_a_run_killed_before_its_first_step_is_started_by_a_resume(zoo, recipe, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for name in (".lock", "environment.json", ".recipe.toml.x1y2z3w4"):
        (out / name).touch()
    assert zoo("finetune", recipe, "--out", out, "--resume")[0] == 0
    assert not (out / ".recipe.toml.x1y2z3w4").exists()
    (out / ".recipe.toml.swp").touch()  # an editor's
    assert zoo("finetune", recipe, "--out", out, "--resume")[0] == 0
    assert (out / ".recipe.toml.swp").exists()
