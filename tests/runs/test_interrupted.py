"""A run that is stopped goes on to the same bits. Real processes, real signals."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file


def start(recipe, out, *arguments):
    command = [sys.executable, "-m", "zoo", "finetune", str(recipe), "--out", str(out), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists():
            return
        time.sleep(0.02)
    raise TimeoutError(path)


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


SETS = ["--set", "run.epochs=40", "--set", "run.ema=0.9", "--set", "data.augment=standard", "--set", "head.dropout=0.2"]


@pytest.fixture
def uninterrupted(zoo, recipe, tmp_path):
    assert zoo("finetune", recipe, "--out", tmp_path / "whole", *SETS)[0] == 0
    return tmp_path / "whole"


def test_ctrl_c_saves_says_how_to_go_on_and_the_rest_is_the_same_run(zoo, recipe, tmp_path, uninterrupted):
    out = tmp_path / "cut"
    process = start(recipe, out, *SETS)
    wait_for(out / "checkpoints" / "index.json")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.startswith("error: stopped after step ")
    command = f"zoo finetune {out}/recipe.toml --out {out} --resume"
    assert err.endswith(f"  mend:  {command}\n")
    assert len((out / "metrics.jsonl").read_text().splitlines()) < 40
    assert zoo(*command.split()[1:])[0] == 0
    assert_same_run(uninterrupted, out)


def test_kill_9_costs_at_most_an_epoch_and_the_rest_is_the_same_run(zoo, recipe, tmp_path, uninterrupted):
    out = tmp_path / "killed"
    process = start(recipe, out, *SETS)
    wait_for(out / "checkpoints" / "index.json")
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    assert zoo("finetune", recipe, "--out", out, "--resume", *SETS)[0] == 0
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
