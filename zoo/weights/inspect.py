"""What is in a checkpoint, without a model to hold it against; and how two of them differ."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.weights.names import match, stage_of, unwrapped
from zoo.weights.reading import Checkpoint, read_checkpoint


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
class TensorDrift:
    """How far one tensor lies from itself in the other file; `identical` and `relative` are as in `Drift`."""

    name: str
    identical: bool
    relative: float


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
    """Two checkpoints compared: drift by stage and by tensor, the names that only one has, those of other shapes.

    Names are the first file's, but for those that only the second has.
    """

    stages: tuple[Drift, ...]
    tensors: tuple[TensorDrift, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    misshapen: tuple[str, ...]

    def is_identical(self) -> bool:
        """Return whether every tensor of each is in the other, with equal values."""
        apart = self.only_first or self.only_second or self.misshapen
        return not apart and all(stage.identical == stage.tensors for stage in self.stages)


def inspect(path: Path) -> Inspection:
    """Return what the checkpoint at `path` holds. WeightsError: it cannot be read."""
    return describe(read_checkpoint(path))


def describe(checkpoint: Checkpoint) -> Inspection:
    """Return what a checkpoint that was read holds."""
    tensors = checkpoint.tensors
    types = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
    stages: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        stages.setdefault(stage_of(name), []).append(tensor)
    return Inspection(
        path=checkpoint.path,
        bytes=checkpoint.path.stat().st_size,
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


def diff(first: Path, second: Path) -> Difference:
    """Return how two checkpoints differ, the second's names brought to the first's. WeightsError: one is unreadable."""
    one = read_checkpoint(first).tensors
    two = _renamed(read_checkpoint(second).tensors, one, second)
    shared = [name for name in one if name in two]
    alike = {name: _apart(one[name], two[name]) for name in shared if one[name].shape == two[name].shape}
    stages: dict[str, list[_Apart]] = {}
    for name, apart in alike.items():
        stages.setdefault(stage_of(name), []).append(apart)
    return Difference(
        tuple(_drift(stage, group) for stage, group in stages.items()),
        tuple(TensorDrift(name, apart.identical, _relative([apart])) for name, apart in alike.items()),
        tuple(name for name in one if name not in two),
        tuple(name for name in two if name not in one),
        tuple(name for name in shared if name not in alike),
    )


def _renamed(tensors: Mapping[str, Tensor], target: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    try:
        return {found.target: tensors[found.source] for found in match(tensors, target)}
    except WeightsError as error:
        raise WeightsError(error.problems[0].what, where=str(path), hint=error.problems[0].hint) from error


@dataclass(frozen=True)
class _Apart:
    """Two tensors compared: the squared L2 norms of their difference and of the first."""

    identical: bool
    difference: float
    size: float


def _apart(one: Tensor, two: Tensor) -> _Apart:
    first, second = one.double(), two.double()
    identical = torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)
    difference = 0.0 if identical else float((second - first).square().sum())
    return _Apart(identical, difference, float(first.square().sum()))


def _drift(stage: str, group: list[_Apart]) -> Drift:
    return Drift(stage, len(group), sum(apart.identical for apart in group), _relative(group))


def _relative(group: list[_Apart]) -> float:
    difference, size = sum(apart.difference for apart in group), sum(apart.size for apart in group)
    if not difference:
        return 0.0  # whatever the size, which NaN has none of
    return (difference / size) ** 0.5 if size else 1.0
