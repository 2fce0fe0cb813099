"""Which architecture a checkpoint may be of, told by its tensors' shapes: names, prefixes and classes do not matter.

`architectures.npz` (made by `benchmarks/architectures.py`) has the shapes of the backbone of every architecture of timm
and torchvision, and how often each occurs. Architectures that have the same are a family.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations
from math import floor, prod
from typing import Any

import numpy as np
from torch import Tensor

from zoo.errors import WeightsError
from zoo.registry.contracts import Backbone
from zoo.weights.branches import TWINS
from zoo.weights.containers import ALIKE
from zoo.weights.names import match, unwrapped

Shape = tuple[int, ...]
Numbers = np.ndarray[Any, np.dtype[np.int64]]

LEAST = 0.5
"""Share of a backbone that has to be in the file for it to be called likely."""
CLOSE = 0.8
"""An architecture is looked at when it is at least so many times as alike as the most alike one."""
INDEX = "architectures.npz"


@dataclass(frozen=True)
class Likely:
    """A backbone held against a file: how many of its `elements` have a tensor of their shape there.

    `named` of them are under the backbone's own names, in all `shaped` under any. `spare` elements of the file have no
    place, those that a classifier would have aside. Integers, such as batch norms' counters, are left out everywhere.
    """

    architecture: str
    elements: int
    named: int
    shaped: int
    spare: int

    @property
    def whole(self) -> bool:
        """Whether file and backbone have the same shapes."""
        return self.shaped == self.elements and not self.spare

    @property
    def alike(self) -> tuple[float, float]:
        """What file and backbone share of all that either has: by shape, and by name and shape."""
        both = self.elements + self.spare
        return self.shaped / both, self.named / both

    def __str__(self) -> str:
        by = "by name and shape" if self.named == self.shaped else "by shape alone: same shapes, other names"
        if 0 < self.named < self.shaped:
            by = f"by shape, {_percent(self.named, self.elements)} by name too"
        spare = f", {self.spare:,} elements of the file left over" if self.spare else ""
        share = _percent(self.shaped, self.elements)
        return f"{self.architecture} ({share} of {self.elements:,} backbone elements {by}{spare})"


@dataclass(frozen=True)
class Index:
    """All architectures, and the libraries that they are of.

    Architecture `names[n]` is of family `families[n]`. The first family has the shapes `shapes[kinds[k]]`, each
    `counts[k]` times, where k runs from `starts[0]` until `starts[1]`, and so on.
    """

    made: str
    names: tuple[str, ...]
    families: Numbers
    shapes: tuple[Shape, ...]
    starts: Numbers
    kinds: Numbers
    counts: Numbers

    def of(self, name: str) -> Counter[Shape]:
        """Return how often the backbone of an architecture has each shape."""
        family = self.families[self.names.index(name)]
        until = [*self.starts[1:], len(self.kinds)][family]
        places = range(self.starts[family], until)
        return Counter({self.shapes[self.kinds[place]]: int(self.counts[place]) for place in places})


@cache
def read_index() -> Index:
    """Return the index that comes with zoo."""
    with files("zoo.weights").joinpath(INDEX).open("rb") as file, np.load(file, allow_pickle=False) as index:
        made, names = (index[key].tobytes().decode() for key in ("made", "names"))
        shapes = tuple(tuple(side for side in sides if side) for sides in index["sides"].T.tolist())
        numbers = {key: index[key].astype(np.int64) for key in ("families", "starts", "kinds", "counts")}
        return Index(made, tuple(names.splitlines()), shapes=shapes, **numbers)


def ranked(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, ...]]:
    """Yield the names of the architectures that may be called likely, family by family, the most alike first.

    A classifier in the file makes all a little less alike, and so does not count.
    """
    index, found = read_index(), Counter(counted(tensors).values())
    sizes = np.array([prod(shape) for shape in index.shapes])[index.kinds]
    there = np.array([found[shape] for shape in index.shapes])[index.kinds]
    elements = np.add.reduceat(sizes * index.counts, index.starts)
    shaped = np.add.reduceat(sizes * np.minimum(index.counts, there), index.starts)
    alike = shaped / (elements + _elements(found.elements()) - shaped)
    likely = np.flatnonzero((shaped >= LEAST * elements) & (alike >= CLOSE * alike.max()))
    for family in likely[np.argsort(-alike[likely], kind="stable")]:
        yield tuple(index.names[place] for place in np.flatnonzero(index.families == family))


def hold(architecture: str, tensors: Mapping[str, Tensor], backbone: Backbone) -> Likely:
    """Return how much of `backbone` (on any device, meta included) is in a file."""
    own, found = counted(backbone.module.state_dict()), counted(tensors)
    named = _named(own, found)
    left, over = Counter(own.values()), Counter(found.values())
    shaped = left & over
    spare = [*(over - shaped).elements()]
    return Likely(
        architecture,
        _elements(own.values()),
        _elements(own[name] for name in named),
        _elements(shaped.elements()),
        _elements(_without_classifier(spare, backbone.spec.channels)),
    )


def best(found: Iterable[Likely], most: int) -> tuple[Likely, ...]:
    """Return the likeliest, best first: only the best of them where the file has all and no more than it needs."""
    order = sorted(found, key=lambda one: (-sum(one.alike), len(one.architecture), one.architecture))
    likely = [one for one in order if one.shaped >= LEAST * one.elements]
    if likely and likely[0].whole:
        likely = [one for one in likely if one.alike == likely[0].alike]
    return tuple(likely[:most])


def one_of_twins(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without a model that stands beside another of its names and shapes: the teacher, the average.

    Both would look like an architecture of twice the depth.
    """
    paths = {name: unwrapped(name).split(".") for name in tensors}
    columns = enumerate(zip(*paths.values(), strict=False))
    depth = next((place for place, segments in columns if len(set(segments)) > 1), 0)
    sides: dict[str, set[tuple[str, Shape]]] = {}
    for name, path in paths.items():
        mark = (".".join(path[depth + 1 :]), tuple(tensors[name].shape))
        sides.setdefault(".".join(path[depth : depth + 1]), set()).add(mark)
    twins = [side for side in sides if side in TWINS]
    again = {
        twin for first, twin in combinations(twins, 2) if len(sides[first] & sides[twin]) >= ALIKE * len(sides[twin])
    }
    return {name: tensors[name] for name, path in paths.items() if again.isdisjoint(path[depth : depth + 1])}


def counted(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shapes of what counts: no integers (batch norms' counters, positions), which not every file has."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in tensors.items()
        if tensor.numel() and tensor.is_floating_point() and not name.endswith("num_batches_tracked")
    }


def _named(own: Mapping[str, Shape], found: Mapping[str, Shape]) -> set[str]:
    """Return the backbone's names that the file has, with the same shape."""
    try:
        matches = match(found, own)
    except WeightsError:  # two models in one file
        return {name for name, shape in own.items() if found.get(name) == shape}
    return {one.target for one in matches if own.get(one.target) == found[one.source]}


def _without_classifier(spare: Sequence[Shape], channels: int) -> list[Shape]:
    """Leave out what a classifier on so many channels would have: rows of as many weights, and as many biases."""
    rows = {shape[0] for shape in spare if len(shape) in (2, 4) and shape[1:] in ((channels,), (channels, 1, 1))}
    own = {(row, *rest) for row in rows for rest in ((), (channels,), (channels, 1, 1))}
    return [shape for shape in spare if shape not in own]


def _elements(shapes: Iterable[Shape]) -> int:
    return sum(prod(shape) for shape in shapes)


def _percent(part: int, whole: int) -> str:
    return f"{floor(1000 * part / whole) / 10:g} %"
