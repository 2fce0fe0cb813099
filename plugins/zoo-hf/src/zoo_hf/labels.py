"""Labels as class indices: those of a ClassLabel, or text and whole numbers, sorted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import zoo


@dataclass(frozen=True)
class Labels:
    """A split's label values in order; `names` are the classes of a ClassLabel, None for any other column."""

    values: Sequence[int | str]
    names: tuple[str, ...] | None

    def indices(self, classes: Sequence[str]) -> list[int]:
        """Return class indices into `classes`, which has every value."""
        place = {name: index for index, name in enumerate(classes)}
        known = self.names or ()
        return [place[known[int(value)] if known else str(value)] for value in self.values]


def read_labels(table: Any, column: str, where: str) -> Labels:
    """Return a split's labels. ZooError: rows have none (null, or -1 as `datasets` marks them); the first is named."""
    feature = table.features[column]
    values = table[column][:]
    known = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None
    bad = [row for row, value in enumerate(values) if _unlabelled(value, known)]
    if bad:
        what = (
            f"{len(bad)} of {len(values)} rows have no label in {column!r}, the first is row {bad[0]}: {values[bad[0]]}"
        )
        raise zoo.ZooError(what, where=where, hint="choose a split that has labels, or filter those rows out")
    return Labels(values, known)


def _unlabelled(value: Any, known: tuple[str, ...] | None) -> bool:
    if value is None or value == "":
        return True
    return isinstance(value, int) and (value < 0 or (known is not None and value >= len(known)))


def class_names(train: Labels, val: Labels | None, where: str) -> tuple[str, ...]:
    """Return the classes: a ClassLabel's own, else those of the training split, sorted.

    ZooError: the validation split has classes that the training split has not.
    """
    classes = train.names or tuple(str(value) for value in sorted(set(train.values)))
    if val is not None:
        there = set(val.names or map(str, val.values))
        strange = sorted(there - set(classes))
        if strange:
            what = f"classes to validate on but none to train on: {', '.join(map(repr, strange))}"
            raise zoo.ZooError(what, where=where, hint="give both splits the same classes")
    return classes
