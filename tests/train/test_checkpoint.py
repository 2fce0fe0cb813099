"""Checkpoints: whole or not at all, damage noticed, a full disk survived."""

import errno
import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from zoo.errors import RunError
from zoo.train import checkpoint as writing
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


# In the background.

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
WRITE = writing._write


class Held:
    """Holds every write up until it is let go, and notes its thread."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self, *given: Any) -> None:
        self.threads.append(threading.current_thread())
        if not self.let_go.wait(60):
            raise TimeoutError
        WRITE(*given)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held()
    monkeypatch.setattr(writing, "_write", made)
    yield made
    made.let_go.set()


def test_what_changes_after_the_call_is_not_in_the_file(tmp_path: Path, held: Held) -> None:
    given, state = tensors(), {"progress": {"step": 3}, "names": ["a"]}
    view = torch.arange(6.0).view(2, 3)
    given["model"]["transposed"] = view.T
    checkpoints = Checkpoints(tmp_path, keep=1)
    path = checkpoints.begin(3, given, state, best=True)
    assert not path.exists()
    for tensor in (*given["model"].values(), *given["ema"].values()):
        tensor.zero_()
    del given["ema"]["conv"]
    state["progress"]["step"] = 4  # type: ignore[call-overload]
    state["names"].append("b")  # type: ignore[attr-defined]
    held.let_go.set()
    checkpoints.wait()
    found, expected = read(path), tensors()
    expected["model"]["transposed"] = torch.arange(6.0).view(2, 3).T
    assert {name: group.keys() for name, group in found.tensors.items()} == {
        name: group.keys() for name, group in expected.items()
    }
    for name, group in expected.items():
        assert all(torch.equal(found.tensors[name][key], value) for key, value in group.items())
    assert (found.state["progress"], found.state["names"]) == ({"step": 3}, ["a"])


def test_the_files_are_those_of_the_plain_libraries(tmp_path: Path) -> None:
    """To the byte: runs are compared by them."""
    path = Checkpoints(tmp_path, keep=1).save(3, tensors(), STATE, best=False)
    digests = {}
    for name, group in tensors().items():
        save_file({key: tensor.contiguous() for key, tensor in group.items()}, tmp_path / name)
        assert (path / f"{name}.safetensors").read_bytes() == (tmp_path / name).read_bytes()
        digests[f"{name}.safetensors"] = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    digests["state.json"] = hashlib.sha256(json.dumps(STATE).encode()).hexdigest()
    assert (path / "state.json").read_text() == json.dumps({**STATE, "sha256": digests}, indent=1)


READS: dict[str, Callable[[Checkpoints], object]] = {
    "paths": lambda checkpoints: checkpoints.paths(),
    "best": lambda checkpoints: checkpoints.best(),
    "newest": lambda checkpoints: checkpoints.newest(),
    "damaged": lambda checkpoints: checkpoints.damaged(),
    "mark_best": lambda checkpoints: checkpoints.mark_best(3),
    "prune": lambda checkpoints: checkpoints.prune(checkpoints.folder / "step-00000003"),
    "wait": lambda checkpoints: checkpoints.wait(),
}


@pytest.mark.parametrize("name", READS)
def test_nobody_sees_half_of_one(tmp_path: Path, held: Held, name: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    path = checkpoints.begin(3, tensors(), STATE, best=True)
    assert checkpoints.is_writing
    threading.Timer(0.1, held.let_go.set).start()
    READS[name](checkpoints)
    assert not checkpoints.is_writing
    assert names(tmp_path) == ["index.json", "step-00000003"]
    newest = checkpoints.newest()
    assert newest is not None
    assert (newest.path, checkpoints.paths(), checkpoints.best(), checkpoints.damaged()) == (path, [path], path, [])


def test_one_is_written_at_a_time_in_order_and_no_thread_is_left(tmp_path: Path, held: Held) -> None:
    before = threading.enumerate()
    held.let_go.set()
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(1, 6):
        checkpoints.begin(step, tensors(float(step)), STATE, best=step == 2)
        assert len(set(threading.enumerate()) - set(before)) <= 1
    assert [path.name for path in checkpoints.paths()] == ["step-00000002", "step-00000004", "step-00000005"]
    for path in checkpoints.paths():
        assert torch.equal(read(path).tensors["model"]["conv"], tensors(float(path.name[-1]))["model"]["conv"])
    assert len(held.threads) == 5
    assert threading.main_thread() not in held.threads
    assert threading.enumerate() == before


def test_the_copy_is_given_back_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[weakref.ref[Tensor]] = []

    def noted(folder: Path, snapshot: Any) -> None:
        copies.extend(weakref.ref(tensor) for tensor in snapshot.tensors["model"].values())
        WRITE(folder, snapshot)

    monkeypatch.setattr(writing, "_write", noted)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, tensors(), STATE, best=False)
    gc.collect()
    assert [copy() for copy in copies] == [None, None]


def refuse(folder: Path, snapshot: Any) -> None:
    (folder / "model.safetensors").write_bytes(b"half")
    raise FULL


@pytest.mark.parametrize("name", [*READS, "begin", "save"])
def test_a_failure_is_raised_by_the_next_call_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    old = checkpoints.save(1, tensors(), STATE, best=True)
    with monkeypatch.context() as disk:
        disk.setattr(writing, "_write", refuse)
        checkpoints.begin(2, tensors(), STATE, best=True)
        while checkpoints.is_writing:
            time.sleep(0.001)
    following: Callable[[Checkpoints], object] = READS.get(
        name, lambda checkpoints: getattr(checkpoints, name)(3, tensors(), STATE, best=False)
    )
    with pytest.raises(RunError) as caught:
        following(checkpoints)
    assert str(caught.value) == (
        "cannot save step-00000002: [Errno 28] No space left on device; step-00000001 is whole\n"
        f"  where: {tmp_path}\n  mend:  make room, then go on with --resume"
    )
    assert names(tmp_path) == ["index.json", "step-00000001"]
    checkpoints.wait()
    assert (checkpoints.paths(), checkpoints.best(), checkpoints.damaged()) == ([old], old, [])
    checkpoints.save(3, tensors(), STATE, best=False)
    assert not checkpoints.damaged()


def test_a_process_that_only_reads_begins_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1, writes=False)
    before = threading.enumerate()
    assert checkpoints.begin(3, tensors(), STATE, best=True) == tmp_path / "checkpoints" / "step-00000003"
    assert (checkpoints.is_writing, threading.enumerate()) == (False, before)
    checkpoints.wait()
    assert not (tmp_path / "checkpoints").exists()


def test_a_kill_while_one_is_written_leaves_the_older_ones_whole(tmp_path: Path) -> None:
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from safetensors.torch import save_file
        from tests.train.test_checkpoint import STATE, tensors
        from zoo.train import checkpoint

        def killed(group, file):
            save_file(group, file)
            if "step-00000003" in str(file) and file.name == "ema.safetensors":
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.save_file = killed
        checkpoints = checkpoint.Checkpoints(Path(sys.argv[1]), keep=2)
        for step in (1, 2, 3):
            checkpoints.begin(step, tensors(), STATE, best=step == 1)
        checkpoints.wait()
    """
    assert run(script, tmp_path).returncode == -SIGKILL
    draft, *rest = names(tmp_path)
    assert draft.startswith(".step-00000003.")
    assert names(tmp_path / draft) == ["ema.safetensors", "model.safetensors"]
    assert rest == ["index.json", "step-00000001", "step-00000002"]
    again = Checkpoints(tmp_path, keep=2)
    newest = again.newest()
    assert newest is not None
    assert (newest.path.name, again.damaged()) == ("step-00000002", [])
    again.save(3, tensors(), STATE, best=False)
    assert names(tmp_path) == ["index.json", "step-00000001", "step-00000002", "step-00000003"]


@pytest.mark.parametrize("end", ["sys.exit(3)", "process.leave(3)"])
def test_a_process_that_ends_writes_to_the_end(tmp_path: Path, end: str) -> None:
    script = f"""if True:
        import sys, time
        from pathlib import Path
        from tests.train.test_checkpoint import STATE, WRITE, tensors
        from zoo.cli import process
        from zoo.train import checkpoint

        def slow(*given):
            time.sleep(0.5)
            WRITE(*given)

        checkpoint._write = slow
        checkpoint.Checkpoints(Path(sys.argv[1]), keep=2).begin(1, tensors(), STATE, best=True)
        {end}
    """
    assert run(script, tmp_path).returncode == 3
    assert names(tmp_path) == ["index.json", "step-00000001"]
    assert not damage(tmp_path / "step-00000001")


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, from the repository's root."""
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", script, folder], cwd=root, capture_output=True, text=True, check=False)
