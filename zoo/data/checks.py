"""What every data source is held to before a run starts."""

import hashlib

import numpy as np

from zoo.errors import DataError
from zoo.registry.contracts import DataSource, Split


def check_classes(source: DataSource) -> None:
    """Refuse a source that cannot train or validate a classifier.

    DataError: fewer than two classes, a name twice, no images in a split, a target that is no class, or a class without
    training images (all such are named).
    """
    names = source.classes
    if len(names) < 2:
        raise DataError(f"there are {len(names)} classes: {list(names)}", hint="a classifier needs two or more")
    if len(set(names)) < len(names):
        raise DataError(f"a class name stands twice: {sorted(n for n in set(names) if names.count(n) > 1)}")
    train = _counts(source.train, "training", len(names))
    _counts(source.val, "validation", len(names))
    empty = [name for name, count in zip(names, train, strict=True) if count == 0]
    if empty:
        shown = ", ".join(repr(name) for name in empty)
        raise DataError(f"no training images of class {shown}", hint="add images of it, or remove the class")


def _counts(split: Split, name: str, classes: int) -> list[int]:
    if len(split) == 0:
        raise DataError(f"there are no {name} images")
    targets = np.asarray([split.target(index) for index in range(len(split))])
    wrong = np.flatnonzero((targets < 0) | (targets >= classes))
    if len(wrong):
        index = int(wrong[0])
        raise DataError(
            f"target {targets[index]} of {split.identity(index)!r} is no class", hint=f"classes are 0 to {classes - 1}"
        )
    counts: list[int] = np.bincount(targets, minlength=classes).tolist()
    return counts


def fingerprint(split: Split) -> str:
    """Return how many images a split has, and a digest of their names and classes in order."""
    digest = hashlib.sha256()
    for index in range(len(split)):
        digest.update(f"{split.identity(index)}\0{split.target(index)}\n".encode("utf-8", "surrogateescape"))
    return f"{len(split)} ({digest.hexdigest()[:12]})"
