"""What is in a checkpoint, without a model to hold it against; and how two of them differ."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.weights.names import match, unwrapped
from zoo.weights.reading import read_checkpoint


@dataclass(frozen=True)
class Stage:
    """Tensors that share the first segment of their names."""

    name: str
    tensors: int
    elements: int


@dataclass(frozen=True)
class Inspection:
    """A checkpoint file: its bytes, the containers around its tensors, and the tensors by type and stage.

    `wrapped` counts the names with segments that DDP, torch.compile and the like put there; stages are without them.
    """

    path: Path
    bytes: int
    sha256: str
    inside: str
    others: tuple[str, ...]
    tensors: int
    elements: int
    dtypes: Mapping[str, int]
    wrapped: int
    stages: tuple[Stage, ...]
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Drift:
    """How far the tensors of one stage lie apart: `identical` of `tensors` have equal values, whatever their types.

    `relative` is the L2 norm of the difference over that of the first file's tensors, 0 when they are equal.
    """

    name: str
    tensors: int
    identical: int
    relative: float


@dataclass(frozen=True)
class Difference:
    """Two checkpoints compared: drift by stage, the names that only one has, and those whose shapes differ."""

    stages: tuple[Drift, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    misshapen: tuple[str, ...]

    def is_identical(self) -> bool:
        """Return whether every tensor of each is in the other, with equal values."""
        apart = self.only_first or self.only_second or self.misshapen
        return not apart and all(stage.identical == stage.tensors for stage in self.stages)


def inspect(path: Path) -> Inspection:
    """Return what the checkpoint at `path` holds. WeightsError: it cannot be read."""
    checkpoint = read_checkpoint(path)
    tensors = checkpoint.tensors
    types = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
    stages: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        stages.setdefault(stage_of(name), []).append(tensor)
    return Inspection(
        path=path,
        bytes=path.stat().st_size,
        sha256=checkpoint.sha256,
        inside=checkpoint.inside,
        others=checkpoint.others,
        tensors=len(tensors),
        elements=sum(tensor.numel() for tensor in tensors.values()),
        dtypes=dict(types.most_common()),
        wrapped=sum(unwrapped(name) != name for name in tensors),
        stages=tuple(Stage(name, len(group), sum(t.numel() for t in group)) for name, group in stages.items()),
        shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()},
    )


def stage_of(name: str) -> str:
    """Return the stage that a tensor's name belongs to: its first segment, with a number that follows it."""
    first, *rest = unwrapped(name).split(".")
    return f"{first}.{rest[0]}" if rest and rest[0].isdecimal() else first


def diff(first: Path, second: Path) -> Difference:
    """Return how two checkpoints differ, the second's names brought to the first's. WeightsError: one is unreadable."""
    one = read_checkpoint(first).tensors
    two = _renamed(read_checkpoint(second).tensors, one, second)
    misshapen = tuple(name for name in one if name in two and one[name].shape != two[name].shape)
    stages: dict[str, list[str]] = {}
    for name in one:
        if name in two and name not in misshapen:
            stages.setdefault(stage_of(name), []).append(name)
    return Difference(
        tuple(_drift(stage, names, one, two) for stage, names in stages.items()),
        tuple(name for name in one if name not in two),
        tuple(name for name in two if name not in one),
        misshapen,
    )


def _renamed(tensors: Mapping[str, Tensor], target: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    try:
        return {found.target: tensors[found.source] for found in match(tensors, target)}
    except WeightsError as error:
        raise WeightsError(error.problems[0].what, where=str(path), hint=error.problems[0].hint) from error


def _drift(stage: str, names: list[str], one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> Drift:
    identical = sum(torch.equal(one[name].double(), two[name].double()) for name in names)
    apart = sum(float((two[name].double() - one[name].double()).square().sum()) for name in names)
    size = sum(float(one[name].double().square().sum()) for name in names)
    return Drift(stage, len(names), identical, (apart / size) ** 0.5 if size else float(apart > 0))
