"""A data source of coloured squares, and what its author may get wrong."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.testing.faulty.backbones import Faulty
from zoo import DataPart, DataSource

NAMES = ("red", "green", "blue")


class Squares:
    """Squares of one colour and some shade."""

    def __init__(self, name: str, shades: Sequence[int], fault: str) -> None:
        self.name, self.shades, self.fault = name, list(shades), fault
        self.kept = {index: self._draw(index) for index in range(len(shades) * 3)} if fault == "one object" else {}
        if fault == "cannot be pickled":
            self.draw = lambda index: self._draw(index)

    def __len__(self) -> int:
        return len(self.shades) * 3

    def _draw(self, index: int) -> Image.Image:
        colour = [0, 0, 0]
        colour[index % 3] = self.shades[index // 3]
        return Image.new("RGB", (32, 32), tuple(colour))

    def image(self, index: int) -> Image.Image:
        if self.fault == "an array":
            return np.asarray(self._draw(index))
        if self.fault == "augments by itself":
            return self._draw(index).rotate(random.random() * 90, fillcolor=(index % 7, 3, 9))
        return self.kept[index] if self.kept else self._draw(index)

    def target(self, index: int) -> int:
        if self.fault == "classes from 1":
            return index % 3 + 1
        if self.fault == "numpy targets":
            return np.int64(index % 3)
        return index % 3

    def identity(self, index: int) -> str:
        if self.fault == "names that repeat":
            return f"{self.name}/{NAMES[index % 3]}"
        if self.fault == "names from hashes":
            return f"{hash(self.name)}/{index}"
        if self.fault == "names from memory":
            return f"{id(self)}/{index}"
        if self.fault == "names from the working folder":
            return f"{Path.cwd()}/{self.name}/{index}"
        return f"{self.name}/{index}"


FAULTS = {
    "one object": "images",
    "cannot be pickled": "pickles",
    "an array": "images",
    "augments by itself": "images",
    "classes from 1": "contract",
    "numpy targets": "contract",
    "names that repeat": "identities",
    "names from memory": "order",
    "order by chance": "order",
    "validates on training images": "no leak",
    "a list of classes": "contract",
    "an empty class": "contract",
    "a class of two lines": "contract",
    "draws from Python's generator": "process untouched",
}
SLOW_FAULTS = {"names from hashes": "order elsewhere"}


def build(options: Faulty, seed: int) -> DataSource:
    fault = options.fault
    train, val = list(range(100, 108)), list(range(200, 203))
    if fault == "order by chance":
        random.SystemRandom().shuffle(train)
    if fault == "draws from Python's generator":
        random.shuffle(val)
    if fault == "validates on training images":
        val = train[:2]
    if fault == "a class of two lines":
        return DataSource(Squares("train", train, ""), Squares("val", val, ""), ("red", "green", "dark\nblue"))
    names = (*NAMES, "white") if fault == "an empty class" else NAMES
    classes = list(names) if fault == "a list of classes" else names
    return DataSource(Squares("train", train, fault), Squares("val", val, fault), classes)


PART = DataPart("faulty", build="tests.testing.faulty.data:build", options=Faulty, summary="squares")
