import numpy as np
import pytest

from zoo.data.arrays import ArraySplit
from zoo.data.checks import check_classes
from zoo.errors import DataError
from zoo.registry.contracts import DataSource


def source(train: list[int], val: list[int], classes: tuple[str, ...] = ("ant", "bee", "cat")) -> DataSource:
    splits = [
        ArraySplit(np.zeros((len(targets), 2, 2), np.uint8), np.array(targets, np.int64), name)
        for name, targets in (("train", train), ("val", val))
    ]
    return DataSource(splits[0], splits[1], classes)


def test_a_val_split_may_miss_a_class() -> None:
    check_classes(source([0, 1, 2], [1]))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (
            source([1, 1], [1]),
            "no training images of class 'ant', 'cat'\n  mend:  add images of it, or remove the class",
        ),
        (source([], [0]), "there are no training images"),
        (source([0, 1, 2], []), "there are no validation images"),
        (source([0, 1, 2], [0, 3]), "target 3 of 'val/1' is no class\n  mend:  classes are 0 to 2"),
        (source([0, -1], [0]), "target -1 of 'train/1' is no class\n  mend:  classes are 0 to 2"),
        (source([0], [0], ("ant",)), "there are 1 classes: ['ant']\n  mend:  a classifier needs two or more"),
        (source([0, 1], [0], ("ant", "ant")), "a class name stands twice: ['ant']"),
    ],
)
def test_what_cannot_train_is_refused(bad: DataSource, text: str) -> None:
    with pytest.raises(DataError) as refused:
        check_classes(bad)
    assert str(refused.value) == text
