"""Which architecture is a file of? Makes zoo's index of timm and torchvision, and looks every architecture up in it.

Each architecture's shapes, with a classifier of 10 classes, are looked up among those of all. `python
benchmarks/architectures.py --keep` leaves the committed index as it is and only looks up.

AMD EPYC, 2 cores, one thread, other work beside it; Python 3.11.7, torch 2.14.1, timm 1.0.31, torchvision 0.29.1: 1,445
architectures built in 1,150 s (6 encoders of timm that end in no classifier are left out), an index of 73,680 bytes;
100 % found first.
"""

import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from machine import describe
from torch import Tensor

import zoo.weights.likely as lookup
from zoo.backbones import timm, torchvision
from zoo.errors import ZooError
from zoo.registry import load_registry
from zoo.run.weights import build_on_meta

PATH = Path(lookup.__file__).with_name(lookup.INDEX)
CLASSES = 10
BAR = 1.0  # share of all that come first, with those that have the same shapes

Shapes = dict[str, dict[str, lookup.Shape]]


def build_all() -> tuple[Shapes, dict[str, int]]:
    """Return, by architecture, its backbone's shapes by name, and the channels of its features."""
    registry = load_registry(candidates=())
    names = [f"timm/{name}" for name in timm.architectures()]
    names += [f"torchvision/{name}" for name in torchvision.architectures()]
    shapes: Shapes = {}
    channels: dict[str, int] = {}
    for number, name in enumerate(names):
        try:
            backbone = build_on_meta(registry, name)
        except ZooError as error:
            print(f"left out     {name}: {error.problems[0].what}")
            continue
        shapes[name], channels[name] = lookup.counted(backbone.module.state_dict()), backbone.spec.channels
        if number % 100 == 0:
            print(f"built        {number} of {len(names)}", flush=True)
    return shapes, channels


def write(shapes: Shapes) -> None:
    """Write the index: bytes and numbers only, no pickle."""
    known = sorted({shape for own in shapes.values() for shape in own.values()})
    number = {shape: place for place, shape in enumerate(known)}
    counts = [sorted(Counter(number[shape] for shape in own.values()).items()) for own in shapes.values()]
    families = {tuple(own): place for place, own in enumerate(dict.fromkeys(map(tuple, counts)))}
    sides = max(map(len, known))
    np.savez_compressed(
        PATH,
        made=_bytes(f"timm {version('timm')}, torchvision {version('torchvision').partition('+')[0]}"),
        names=_bytes("\n".join(shapes)),
        families=np.array([families[tuple(own)] for own in counts], np.uint16),
        sides=np.array([[*shape, *[0] * (sides - len(shape))] for shape in known], np.uint32).T.copy(),
        starts=np.cumsum([0, *map(len, families)], dtype=np.uint32)[:-1],
        kinds=np.array([kind for own in families for kind, _ in own], np.uint16),
        counts=np.array([count for own in families for _, count in own], np.uint16),
    )


def _bytes(text: str) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    return np.frombuffer(text.encode(), np.uint8)


def place(name: str, tensors: dict[str, Tensor]) -> int:
    """Return how many architectures are likelier than the right one."""
    before = 0
    for group in lookup.ranked(tensors):
        if name in group:
            return before
        before += len(group)
    return len(lookup.read_index().names)


def file_of(shapes: Iterable[lookup.Shape], channels: int) -> dict[str, Tensor]:
    """Return a file's tensors, under names that mean nothing, with a classifier."""
    own = [*shapes, (CLASSES, channels), (CLASSES,)]
    return {str(number): torch.empty(shape, device="meta") for number, shape in enumerate(own)}


def main() -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(describe())
    started = time.perf_counter()
    shapes, channels = build_all()
    print(f"built        {len(shapes)} in {time.perf_counter() - started:.0f} s")
    if "--keep" not in sys.argv:
        write(shapes)
    print(f"index        {PATH.stat().st_size:,} bytes, {lookup.read_index().made}")
    places = [place(name, file_of(own.values(), channels[name])) for name, own in shapes.items()]
    first = sum(found == 0 for found in places) / len(places)
    print(f"found first  {first:.2%} (bar {BAR:.0%})")
    return int(first < BAR)


if __name__ == "__main__":
    sys.exit(main())
