"""Checkpoints: one folder each, safetensors and JSON, written whole or not at all.

checkpoints/step-00000046/  model.safetensors  optimizer.safetensors  [ema.safetensors]  state.json
checkpoints/index.json      {"best": "step-00000046"}
"""

import errno
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.errors import RunError
from zoo.files import new_folder, sha256, write_text

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What was read: tensors by file ("model", "optimizer", "ema") and the plain state."""

    path: Path
    tensors: Mapping[str, dict[str, Tensor]]
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of a run, in `folder`: the newest `keep` and the best one stay."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, step: int, tensors: Mapping[str, Tensors], state: Mapping[str, Any], best: bool) -> Path:
        """Write the checkpoint of `step`. RunError: it cannot be written (disk full); the older ones stay whole."""
        path = self.folder / f"step-{step:08d}"
        try:
            with new_folder(path) as draft:
                _write(draft, tensors, state)
            if best:
                write_text(self.folder / "index.json", json.dumps({"best": path.name}))
        except (OSError, SafetensorError) as error:
            raise self._refusal(path, error) from error
        self._prune()
        return path

    def paths(self) -> list[Path]:
        """Return the checkpoints' folders, oldest first."""
        return sorted(self.folder.glob("step-*"))

    def best(self) -> Path | None:
        """Return the folder of the best checkpoint, or None when there is none yet."""
        index = self.folder / "index.json"
        path = self.folder / json.loads(index.read_text())["best"] if index.exists() else None
        return path if path is not None and path.is_dir() else None

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None. Damaged ones are passed over: see `damaged`."""
        for path in reversed(self.paths()):
            if not damage(path):
                return read(path)
        return None

    def damaged(self) -> list[str]:
        """Return what is wrong with each checkpoint that is not whole."""
        return [f"{path.name}: {fault}" for path in self.paths() if (fault := damage(path))]

    def _prune(self) -> None:
        keep = {*self.paths()[-self.keep :], self.best()}
        for path in self.paths():
            if path not in keep:
                shutil.rmtree(path)

    def _refusal(self, path: Path, error: Exception) -> RunError:
        older = self.paths()
        kept = f"; {older[-1].name} is whole" if older else ""
        full = "No space left" in str(error) or getattr(error, "errno", None) == errno.ENOSPC
        hint = "make room, then go on with --resume" if full else "mend this, then go on with --resume"
        return RunError(f"cannot save {path.name}: {error}{kept}", where=str(self.folder), hint=hint)


def _write(folder: Path, tensors: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
    digests = {}
    for name, group in tensors.items():
        file = folder / f"{name}.safetensors"
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}, file)
        digests[file.name] = sha256(file)
    (folder / "state.json").write_text(json.dumps({**state, "sha256": digests}, indent=1))


def damage(path: Path) -> str:
    """Return what is wrong with the checkpoint folder `path`, or an empty string when it is whole."""
    try:
        digests = json.loads((path / "state.json").read_text())["sha256"]
        wrong = [name for name, digest in digests.items() if sha256(path / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{', '.join(wrong)} differs from its SHA-256" if wrong else ""


def read(path: Path) -> Checkpoint:
    """Return the checkpoint in the folder `path`, tensors on the CPU. RunError: it is damaged."""
    fault = damage(path)
    if fault:
        raise RunError(f"the checkpoint {path.name} is damaged: {fault}", where=str(path), hint="use another one")
    state = json.loads((path / "state.json").read_text())
    tensors = {Path(name).stem: load_file(path / name) for name in state["sha256"]}
    return Checkpoint(path, tensors, state)


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the tensors of the optimiser's state by parameter name: {"layer.weight/exp_avg": tensor}."""
    return {name: value for name, value in _state(optimizer) if isinstance(value, Tensor)}


def optimizer_numbers(optimizer: Optimizer) -> dict[str, Any]:
    """Return what else the optimiser keeps: plain numbers by parameter, and of its groups (some count steps there)."""
    plain = (bool, int, float, str)
    groups = [
        {key: value for key, value in group.items() if isinstance(value, plain)} for group in optimizer.param_groups
    ]
    return {"state": {name: value for name, value in _state(optimizer) if isinstance(value, plain)}, "groups": groups}


def load_optimizer(optimizer: Optimizer, tensors: Tensors, numbers: Mapping[str, Any]) -> None:
    """Give the optimiser back what `optimizer_tensors` and `optimizer_numbers` gave, each tensor in its own layout."""
    by_name: dict[str, dict[str, Any]] = {}
    for full, value in {**tensors, **numbers["state"]}.items():
        name, _, key = full.rpartition("/")
        by_name.setdefault(name, {})[key] = value
    for name, parameter in _named(optimizer):
        if name in by_name:
            optimizer.state[parameter] = {key: _like(value, parameter) for key, value in by_name[name].items()}
    for group, kept in zip(optimizer.param_groups, numbers["groups"], strict=True):
        group.update(kept)


def _state(optimizer: Optimizer) -> Iterable[tuple[str, Any]]:
    for name, parameter in _named(optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            yield f"{name}/{key}", value


def _named(optimizer: Optimizer) -> Iterable[tuple[str, nn.Parameter]]:
    for group in optimizer.param_groups:
        yield from zip(group["names"], group["params"], strict=True)


def _like(value: Any, parameter: nn.Parameter) -> Any:
    """A running average has its parameter's strides: a sum over it must add in the same order after a resume."""
    if not isinstance(value, Tensor) or not value.dim() or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
