"""Checkpoints: one folder each, safetensors and JSON, written whole or not at all.

checkpoints/step-00000046/  model.safetensors  optimizer.safetensors  [ema.safetensors]  state.json
checkpoints/index.json      {"best": "step-00000046"}
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, contiguous_format

from zoo.errors import RunError
from zoo.files import new_folder, sha256, write_text
from zoo.train.writing import Background

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What was read: tensors by file ("model", "optimizer", "ema") and the plain state."""

    path: Path
    tensors: Mapping[str, dict[str, Tensor]]
    state: Mapping[str, Any]


@dataclass(frozen=True)
class _Snapshot:
    """All that a checkpoint holds, at one moment: tensors by file, contiguous on the CPU, and the state as JSON."""

    tensors: Mapping[str, dict[str, Tensor]]
    state: str


def _snapshot(tensors: Mapping[str, Tensors], state: Mapping[str, Any]) -> _Snapshot:
    """Copy everything, tensors on the CPU too: the next step changes them in place."""
    return _Snapshot(
        {name: {key: _copy(tensor) for key, tensor in group.items()} for name, group in tensors.items()},
        json.dumps(state),
    )


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=contiguous_format)


def is_due(every: int | str, step: int, seconds: float) -> bool:
    """Return whether a checkpoint is due after `step`, `seconds` after the last; `every` is as in `[checkpoint]`."""
    if isinstance(every, int):
        return step % every == 0
    return every != "epoch" and seconds >= 60 * int(every.removesuffix("m"))


class Checkpoints:
    """The checkpoints of a run, in `folder`: the newest `keep` and the best one stay.

    Of several processes one `writes`, and the others only read. What is written in the background is waited for by
    every other method, so that none meets half of it. RunError: as from `wait`, from whichever comes next.
    """

    def __init__(self, folder: Path, keep: int, *, writes: bool = True) -> None:
        self.folder = folder
        self.keep = keep
        self._writes = writes
        self._background = Background()

    def save(self, step: int, tensors: Mapping[str, Tensors], state: Mapping[str, Any], best: bool) -> Path:
        """Write the checkpoint of `step`. RunError: it cannot be written (disk full); the older ones stay whole."""
        path = self.begin(step, tensors, state, best)
        self.wait()
        return path

    def begin(self, step: int, tensors: Mapping[str, Tensors], state: Mapping[str, Any], best: bool) -> Path:
        """Copy everything now, write the checkpoint of `step` in the background, and return the folder it will be.

        What changes after the call is not in it. One is written at a time, after a wait for the one before: there is
        one copy in memory. RunError: the one before could not be written.
        """
        path = self._path(step)
        if self._writes:
            self.wait()
            snapshot = _snapshot(tensors, state)
            self._background.start(lambda: self._write(path, snapshot, best))
        return path

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint is being written. A False says nothing of how it went: `wait` does."""
        return self._background.is_busy

    def wait(self) -> None:
        """Return when the checkpoint that was begun stands.

        RunError, once: it cannot be written (disk full); the older ones stay whole.
        """
        self._background.wait()

    def _write(self, path: Path, snapshot: _Snapshot, best: bool) -> None:
        """In the background. What it calls must not wait for itself."""
        try:
            with new_folder(path) as draft:
                _write(draft, snapshot)
            if best:
                self._mark_best(path)
        except (OSError, SafetensorError) as error:
            raise self._refusal(path, error) from error
        self._prune(path)

    def mark_best(self, step: int) -> None:
        """Note that the checkpoint of `step` is the best one, when there is one of that step."""
        self.wait()
        if self._writes:
            self._mark_best(self._path(step))

    def _mark_best(self, path: Path) -> None:
        if path.is_dir():
            write_text(self.folder / "index.json", json.dumps({"best": path.name}))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def paths(self) -> list[Path]:
        """Return the checkpoints' folders, oldest first."""
        self.wait()
        return self._paths()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))

    def best(self) -> Path | None:
        """Return the folder of the best checkpoint, or None when there is none yet."""
        self.wait()
        return self._best()

    def _best(self) -> Path | None:
        index = self.folder / "index.json"
        path = self.folder / json.loads(index.read_text())["best"] if index.exists() else None
        return path if path is not None and path.is_dir() else None

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None. Damaged ones are passed over: see `damaged`."""
        for path in reversed(self.paths()):
            if not damage(path):
                return _load(path)
        return None

    def damaged(self) -> list[str]:
        """Return what is wrong with each checkpoint that is not whole."""
        return [f"{path.name}: {fault}" for path in self.paths() if (fault := damage(path))]

    def prune(self, newest: Path) -> None:
        """Remove what need not stay beside `newest`, and the drafts of a killed process.

        Later ones than `newest` are damaged, or the run would have gone on from them. Each is a draft first: a kill in
        between leaves no half a checkpoint under its name.
        """
        self.wait()
        if self._writes:
            self._prune(newest)

    def _prune(self, newest: Path) -> None:
        keep = {*[path for path in self._paths() if path <= newest][-self.keep :], self._best()}
        for path in self._paths():
            if path not in keep:
                path.rename(path.with_name(f".{path.name}.old"))
        for draft in self.folder.glob(".step-*"):
            shutil.rmtree(draft)

    def _refusal(self, path: Path, error: Exception) -> RunError:
        whole = next((older.name for older in reversed(self._paths()) if not damage(older)), None)
        kept = f"; {whole} is whole" if whole else ""
        full = "No space left" in str(error) or getattr(error, "errno", None) == errno.ENOSPC
        hint = "make room, then go on with --resume" if full else "mend this, then go on with --resume"
        return RunError(f"cannot save {path.name}: {error}{kept}", where=str(self.folder), hint=hint)


def _write(folder: Path, snapshot: _Snapshot) -> None:
    digests, state = {}, json.loads(snapshot.state)
    for name, group in snapshot.tensors.items():
        file = folder / f"{name}.safetensors"
        save_file(group, file)
        digests[file.name] = sha256(file)
    digests["state.json"] = _digest(state)
    (folder / "state.json").write_text(json.dumps({**state, "sha256": digests}, indent=1), encoding="utf-8")


def _digest(state: Mapping[str, Any]) -> str:
    """SHA-256 of the state itself, its own digests aside."""
    return hashlib.sha256(json.dumps({k: v for k, v in state.items() if k != "sha256"}).encode()).hexdigest()


def damage(path: Path) -> str:
    """Return what is wrong with the checkpoint folder `path`, or an empty string when it is whole."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        found = {name: _digest(state) if name == "state.json" else sha256(path / name) for name in state["sha256"]}
        wrong = [name for name, digest in found.items() if digest != state["sha256"][name]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{', '.join(wrong)} differs from its SHA-256" if wrong else ""


def read(path: Path) -> Checkpoint:
    """Return the checkpoint in the folder `path`, tensors on the CPU. RunError: it is damaged."""
    fault = damage(path)
    if fault:
        raise RunError(f"the checkpoint {path.name} is damaged: {fault}", where=str(path), hint="use another one")
    return _load(path)


def _load(path: Path) -> Checkpoint:
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    tensors = {Path(name).stem: load_file(path / name) for name in state["sha256"] if name.endswith(".safetensors")}
    return Checkpoint(path, tensors, state)
