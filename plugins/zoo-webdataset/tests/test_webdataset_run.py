"""Whole runs in processes of their own: who reads what, a kill in mid-epoch, and the README as it stands there."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from webdataset_made import sample, write_shard, write_shards
from zoo.cli.main import run
from zoo.run.prove import compare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
README = Path(__file__).resolve().parents[1] / "README.md"
RECIPE = """\
format = 1
[run]
name = "tiny"
epochs = 1
batch_size = 8
[backbone]
use = "timm"
arch = "test_vit"
[data]
use = "webdataset"
train = "{train}"
val = "{val}"
image_size = 32
workers = 2
augment = "flip"
[checkpoint]
every = 1
[device]
device = "cpu"
precision = "fp32"
channels_last = false
"""
# Python imports this module at its start, in every process of a run.
LOG_READS = """\
import os
_pread = os.pread
def pread(handle, size, offset):
    line = f"{os.environ.get('RANK', '0')} {os.getpid()} {os.readlink(f'/proc/self/fd/{handle}')} {offset}\\n"
    log = os.open(os.environ["READS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line.encode())
    os.close(log)
    return _pread(handle, size, offset)
os.pread = pread
"""
ZOO = [sys.executable, "-c", "import sys; from zoo.cli.main import main; sys.argv[0] = 'zoo'; main()"]


def made(folder: Path, each: int = 8) -> Path:
    """A folder with a recipe for 4 shards of so many images, and the module that logs reads."""
    train = write_shards(folder / "shards", 4, each)
    (folder / "tiny.toml").write_text(RECIPE.format(train=train, val=folder / "shards/val.tar"))
    (folder / "logging").mkdir()
    (folder / "logging/sitecustomize.py").write_text(LOG_READS)
    return folder


def start(folder: Path, *words: str, reads: str = "reads") -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(folder / "logging"),
        "READS": str(folder / reads),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*ZOO, *words], cwd=folder, env=environment, text=True, start_new_session=True, **pipes)


def finish(process: "subprocess.Popen[str]") -> None:
    _, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, "")


def read(folder: Path, reads: str = "reads") -> list[tuple[int, int, str]]:
    """(rank, process, place) of what was read to train on."""
    lines = [line.split(" ") for line in (folder / reads).read_text().splitlines()]
    shards = [(int(rank), int(process), f"{Path(path).name} {place}") for rank, process, path, place in lines]
    return [one for one in shards if not one[2].startswith("val")]


def test_two_processes_with_two_workers_read_each_image_once(tmp_path: Path) -> None:
    made(tmp_path)
    finish(
        start(tmp_path, "finetune", "tiny.toml", "--out", "run", "--set", "device.use=ddp", "--set", "device.devices=2")
    )
    found = read(tmp_path)
    assert Counter(Counter(place for _, _, place in found).values()) == {1: 32}
    assert Counter(rank for rank, _, _ in found) == {0: 16, 1: 16}
    assert len({process for _, process, _ in found}) == 4


def steps(folder: Path) -> int:
    return max((int(path.name[5:]) for path in folder.glob("checkpoints/step-*")), default=0)


def test_a_kill_in_mid_epoch_costs_nothing_that_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is the same run to the bit, and reads the images of the steps that were left, no others."""
    made(tmp_path, each=48)
    words = ("finetune", "tiny.toml", "--set", "run.epochs=2")
    monkeypatch.chdir(tmp_path)
    assert run([*words, "--out", "whole"]) == 0
    cut = start(tmp_path, *words, "--out", "cut")
    end = time.monotonic() + 100
    while steps(tmp_path / "cut") < 3:
        assert time.monotonic() < end
        time.sleep(0.005)
    os.killpg(cut.pid, signal.SIGKILL)
    cut.communicate()
    done = steps(tmp_path / "cut")
    assert 3 <= done < 24, "an epoch has 24 steps"
    finish(start(tmp_path, "finetune", "--resume", "cut", reads="resumed-reads"))
    assert compare(tmp_path / "whole", tmp_path / "cut") == []
    assert len(read(tmp_path, "resumed-reads")) == 2 * 192 - 8 * done


@pytest.mark.parametrize("skip", [True, False])
def test_an_image_that_cannot_be_decoded(
    skip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path)
    write_shard(tmp_path / "shards/000.tar", [sample(0), sample(1, png=b"?"), *map(sample, range(2, 8))])
    monkeypatch.chdir(tmp_path)
    sets = ("--set", f"data.on_bad_image={'skip' if skip else 'error'}", "--set", "data.workers=0")
    status = run(["finetune", "tiny.toml", "--out", "run", *sets])
    err = capsys.readouterr().err
    reason = "it is in no image format that Pillow reads"
    if skip:
        assert (status, err) == (0, "")
        assert (tmp_path / "run/bad_images.txt").read_text() == f"000.tar/0001\t{reason}\n"
    else:
        assert status == 2
        assert "000.tar/0001" in err
        assert reason in err


def test_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = README.read_text()
    scripts = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (recipe,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    subprocess.run([sys.executable, "-c", "\n".join(scripts)], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "patches.toml").write_text(recipe + '\n[device]\ndevice = "cpu"\nprecision = "fp32"\n')
    monkeypatch.chdir(tmp_path)
    assert run(["finetune", "patches.toml", "--out", "run"]) == 0
    assert "200 train, 40 val, 3 classes" in capsys.readouterr().out
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["val/accuracy"] > 0.5
