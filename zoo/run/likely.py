"""What architecture is this checkpoint of? The likeliest by shape are built, without memory, and held against it."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from zoo.errors import ZooError
from zoo.registry import Registry
from zoo.registry.contracts import Backbone
from zoo.run.weights import build_on_meta
from zoo.weights.inspect import Inspection, describe
from zoo.weights.likely import Likely, best, hold, one_of_twins, ranked
from zoo.weights.reading import read_checkpoint

BUILT = 6
"""Architectures looked at, and those that are their equals by shape; fewer when one fits wholly."""


def look(registry: Registry, path: Path) -> tuple[Inspection, tuple[Likely, ...]]:
    """Return what the checkpoint at `path` holds, and which architectures it may be of. WeightsError: unreadable."""
    checkpoint = read_checkpoint(path)
    return describe(checkpoint), likely(registry, checkpoint.tensors)


def likely(registry: Registry, tensors: Mapping[str, Tensor], most: int = 5) -> tuple[Likely, ...]:
    """Return the architectures, at most so many, that have at least half of their backbone in `tensors`, best first.

    Where one has the shapes of `tensors`, no more and no less, only those that are as good are returned.
    """
    single, found = one_of_twins(tensors), list[Likely]()
    for group in ranked(single):
        built = {name: _build(registry, name) for name in group}
        found += [hold(name, single, backbone) for name, backbone in built.items() if backbone]
        if len(found) >= BUILT or any(one.whole for one in found):
            break
    return best(found, most)


def _build(registry: Registry, name: str) -> Backbone | None:
    try:
        return build_on_meta(registry, name)
    except ZooError:
        return None  # the index is of other versions of the libraries than those installed
