"""Checkpoints: whole or not at all, damage noticed, a full disk survived."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from zoo.errors import RunError
from zoo.train.checkpoint import Checkpoints, damage, is_due, read

STATE = {"progress": {"step": 3, "loss_sum": 0.1}, "name": "größe"}


def tensors(scale: float = 1.0) -> dict[str, dict[str, Tensor]]:
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4) * scale
    model = {"conv": images.contiguous(memory_format=torch.channels_last), "count": torch.tensor(7)}
    return {"model": model, "ema": {"conv": images.bfloat16()}, "optimizer": {}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    path = checkpoints.save(3, tensors(), STATE, best=True)
    found = checkpoints.newest()
    assert found is not None
    assert found.path == path == checkpoints.best() == tmp_path / "checkpoints" / "step-00000003"
    assert names(path) == ["ema.safetensors", "model.safetensors", "optimizer.safetensors", "state.json"]
    assert {key: found.state[key] for key in STATE} == STATE
    assert found.tensors.keys() == tensors().keys()
    for group, kept in tensors().items():
        assert found.tensors[group].keys() == kept.keys()
        assert all(torch.equal(found.tensors[group][name], value) for name, value in kept.items())
        assert all(found.tensors[group][name].dtype == value.dtype for name, value in kept.items())


def test_nothing_yet(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "none", keep=2)
    assert (checkpoints.newest(), checkpoints.best(), checkpoints.paths(), checkpoints.damaged()) == (
        None,
        None,
        [],
        [],
    )


def test_the_newest_ones_and_the_best_one_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(1, 7):
        checkpoints.save(step, tensors(), STATE, best=step == 2)
    assert [path.name for path in checkpoints.paths()] == ["step-00000002", "step-00000005", "step-00000006"]
    assert json.loads((tmp_path / "index.json").read_text()) == {"best": "step-00000002"}
    checkpoints.save(7, tensors(), STATE, best=True)
    assert [path.name for path in checkpoints.paths()] == ["step-00000006", "step-00000007"]
    assert names(tmp_path) == ["index.json", "step-00000006", "step-00000007"]


def test_a_kill_while_old_ones_go_leaves_no_half_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process finds each checkpoint whole or gone, and sweeps: the run's last save may have been its last."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, tensors(), STATE, best=False)
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", half_removed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(2, tensors(), STATE, best=False)
    again = Checkpoints(tmp_path, keep=1)
    newest = again.newest()
    assert newest is not None
    assert ([path.name for path in again.paths()], again.damaged()) == (["step-00000002"], [])
    assert names(tmp_path) == [".step-00000001.old", "step-00000002"]
    again.prune(newest.path)
    assert names(tmp_path) == ["step-00000002"]


def half_removed(path: Path, **_: bool) -> None:
    if (path / "state.json").exists():
        (path / "state.json").unlink()
        raise KeyboardInterrupt


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, tensors(), STATE, best=False)
    checkpoints.save(1, tensors(2.0), STATE, best=False)
    assert names(tmp_path) == ["step-00000001"]
    assert torch.equal(read(tmp_path / "step-00000001").tensors["model"]["conv"], tensors(2.0)["model"]["conv"])


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "one byte short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "first byte": lambda file: flip(file, 0),
    "a byte inside": lambda file: flip(file, file.stat().st_size // 2),
    "last byte": lambda file: flip(file, -1),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("file", ["model.safetensors", "state.json"])
@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path: Path, file: str, harm: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    older, newer = (checkpoints.save(step, tensors(), STATE, best=False) for step in (1, 2))
    DAMAGES[harm](newer / file)
    found = checkpoints.newest()
    assert found is not None
    assert found.path == older
    assert checkpoints.damaged() == [f"step-00000002: {damage(newer)}"]


def test_every_byte_of_the_state_counts(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path, keep=1).save(1, tensors(), STATE, best=False)
    whole = (path / "state.json").read_bytes()
    for place in range(len(whole)):
        flip(path / "state.json", place)
        state = (path / "state.json").read_bytes()
        (path / "state.json").write_bytes(whole)
        if not json_equal(state, whole):
            (path / "state.json").write_bytes(state)
            assert damage(path), (place, state)
            (path / "state.json").write_bytes(whole)
    assert not damage(path)


def json_equal(first: bytes, second: bytes) -> bool:
    """White space may change (a space for an exclamation mark it cannot)."""
    try:
        return bool(json.loads(first) == json.loads(second))
    except ValueError:
        return False


def test_reading_a_damaged_checkpoint(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path, keep=1).save(1, tensors(), STATE, best=False)
    flip(path / "model.safetensors", -1)
    with pytest.raises(RunError) as caught:
        read(path)
    assert str(caught.value) == (
        "the checkpoint step-00000001 is damaged: model.safetensors differs from its SHA-256\n"
        f"  where: {path}\n  mend:  use another one"
    )


def test_going_on_before_a_damaged_one_keeps_what_is_saved_next(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(9, tensors(), STATE, best=False)
    flip(tmp_path / "step-00000009" / "model.safetensors", -1)
    path = checkpoints.save(5, tensors(), STATE, best=False)
    assert checkpoints.paths() == [path]


def test_drafts_of_a_killed_run_are_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".step-00000001.abc").mkdir()
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.newest() is None
    checkpoints.save(1, tensors(), STATE, best=False)
    assert names(tmp_path) == ["step-00000001"]


def test_the_best_mark_is_written_only_for_what_is_there(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    first = checkpoints.save(1, tensors(), STATE, best=True)
    checkpoints.mark_best(2)
    assert checkpoints.best() == first
    second = checkpoints.save(2, tensors(), STATE, best=False)
    checkpoints.mark_best(2)
    assert checkpoints.best() == second


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_leaves_the_older_checkpoint_whole(small_disk: Path) -> None:
    folder = small_disk / "checkpoints"
    checkpoints = Checkpoints(folder, keep=2)
    old = checkpoints.save(1, tensors(), STATE, best=True)
    with pytest.raises(RunError) as caught:
        checkpoints.save(2, {"model": {"weight": torch.zeros(1_000_000)}}, STATE, best=True)
    first, where, hint = str(caught.value).split("\n")
    assert first.startswith("cannot save step-00000002: ")
    assert "No space left on device" in first
    assert first.endswith("; step-00000001 is whole")
    assert (where, hint) == (f"  where: {folder}", "  mend:  make room, then go on with --resume")
    assert names(folder) == ["index.json", "step-00000001"]
    assert checkpoints.best() == old
    assert not damage(old)
    checkpoints.save(3, tensors(), STATE, best=False)
    assert not checkpoints.damaged()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(RunError) as caught:
        Checkpoints(tmp_path / "checkpoints", keep=1).save(1, tensors(), STATE, best=False)
    folder = tmp_path / "checkpoints"
    assert str(caught.value) == (
        f"cannot save step-00000001: [Errno 17] File exists: '{folder}'\n"
        f"  where: {folder}\n  mend:  mend this, then go on with --resume"
    )


@pytest.mark.parametrize(
    ("every", "step", "seconds", "due"),
    [
        ("epoch", 7, 1e9, False),
        (3, 6, 0.0, True),
        (3, 7, 1e9, False),
        ("10m", 7, 599.9, False),
        ("10m", 7, 600.0, True),
    ],
)
def test_a_checkpoint_is_due_by_steps_or_minutes(every: int | str, step: int, seconds: float, due: bool) -> None:
    assert is_due(every, step, seconds) is due


@pytest.mark.parametrize("file", ["model.safetensors", "ema.safetensors", "state.json"])
@pytest.mark.parametrize("eighths", range(8))
def test_a_checkpoint_cut_short_is_passed_over(tmp_path: Path, file: str, eighths: int) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    before = checkpoints.save(3, tensors(), STATE, best=False)
    cut = checkpoints.save(6, tensors(2.0), STATE, best=False) / file
    content = cut.read_bytes()
    cut.write_bytes(content[: len(content) * eighths // 8])
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.path == before
    assert [fault.partition(":")[0] for fault in checkpoints.damaged()] == ["step-00000006"]
