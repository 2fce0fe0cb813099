"""1,797 real handwritten digits, shipped inside: the UCI set's test part (source and licence: digits.LICENCE.txt)."""

from importlib.resources import files

import numpy as np

from zoo.data.arrays import ArraySplit
from zoo.data.split import split_in_two
from zoo.registry.contracts import DataSource
from zoo.registry.parts import NoOptions

VAL_FRACTION = 0.2
INK = 16
"""Full ink in the file: each pixel counts the black ones of a 4 × 4 block."""


def build(options: NoOptions, seed: int) -> DataSource:
    """Return 8 × 8 grey images, 0 to 255, of ten classes: four fifths of each to train on, drawn by `seed`."""
    with files("zoo.data").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        counts, labels = arrays["images"], arrays["labels"]
    images = np.round(counts * (255 / INK)).astype(np.uint8)
    return split_in_two(ArraySplit(images, labels, "digits"), tuple("0123456789"), VAL_FRACTION, seed)
