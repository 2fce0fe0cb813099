"""Splitting one set of images into training and validation, class by class."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from zoo.errors import DataError
from zoo.registry.contracts import DataSource, Split
from zoo.seeds import derive


class Subset:
    """Some samples of a split, in the order of `indices`; each keeps its identity."""

    def __init__(self, whole: Split, indices: Sequence[int]) -> None:
        self._whole = whole
        self._indices = np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._indices)

    def image(self, index: int) -> Image.Image:
        """Return the image as stored. OSError, ValueError: it cannot be decoded."""
        return self._whole.image(int(self._indices[index]))

    def target(self, index: int) -> int:
        """Return the class index."""
        return self._whole.target(int(self._indices[index]))

    def identity(self, index: int) -> str:
        """Return what names this sample in the whole."""
        return self._whole.identity(int(self._indices[index]))


def stratified_indices(
    targets: Sequence[int], classes: Sequence[str], val_fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Return ascending indices to train on and to validate on, which together are every index once.

    Of a class of n images, round(n · val_fraction) validate, at least 1 and at most n - 1, drawn by (seed, class name),
    so that another class's coming or going changes nothing. DataError: a class of one image.
    """
    labels = np.asarray(targets)
    val: list[int] = []
    for target, name in enumerate(classes):
        members = np.flatnonzero(labels == target)
        if len(members) == 1:
            raise DataError(f"class {name!r} has one image: it cannot both train and validate", hint="add more of it")
        count = min(max(round(len(members) * val_fraction), 1), len(members) - 1)
        drawn = np.random.default_rng(derive(seed, "split", name)).permutation(members)[: max(count, 0)]
        val.extend(drawn.tolist())
    return np.setdiff1d(np.arange(len(labels)), val).tolist(), sorted(val)


def split_in_two(whole: Split, classes: tuple[str, ...], val_fraction: float, seed: int) -> DataSource:
    """Return a seeded, stratified split of `whole` as a source. DataError: a class of one image."""
    targets = [whole.target(index) for index in range(len(whole))]
    train, val = stratified_indices(targets, classes, val_fraction, seed)
    return DataSource(Subset(whole, train), Subset(whole, val), classes)
