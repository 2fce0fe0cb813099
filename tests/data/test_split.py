import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.arrays import ArraySplit
from zoo.data.split import split_in_two, stratified_indices
from zoo.errors import DataError

NAMES = ("ant", "bee", "cat")


@given(counts=st.tuples(*[st.integers(2, 40)] * 3), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=30)
def test_every_index_once_and_every_class_in_both(counts: tuple[int, ...], fraction: float, seed: int) -> None:
    targets = np.repeat(range(3), counts)
    train, val = stratified_indices(targets.tolist(), NAMES, fraction, seed)
    assert sorted(train + val) == list(range(len(targets)))
    assert train == sorted(train)
    assert val == sorted(val)
    assert set(targets[train]) == set(targets[val]) == {0, 1, 2}
    for target, count in enumerate(counts):
        assert sum(targets[val] == target) == min(max(round(count * fraction), 1), count - 1)


def test_the_seed_draws() -> None:
    targets = [0, 1] * 50
    first = stratified_indices(targets, ("a", "b"), 0.2, 0)
    assert first == stratified_indices(targets, ("a", "b"), 0.2, 0)
    assert first != stratified_indices(targets, ("a", "b"), 0.2, 1)


def test_another_class_changes_nothing_for_those_there() -> None:
    _, val = stratified_indices([1] * 20, ("-", "bee"), 0.2, 0)
    _, more = stratified_indices([1] * 20 + [0] * 20, ("ant", "bee"), 0.2, 0)
    assert val == [index for index in more if index < 20]


def test_a_class_of_one_image_is_refused() -> None:
    with pytest.raises(DataError) as refused:
        stratified_indices([0, 0, 1], ("ant", "bee"), 0.2, 0)
    assert str(refused.value) == (
        "class 'bee' has one image: it cannot both train and validate\n  mend:  add more of it"
    )


def test_samples_keep_their_identity() -> None:
    images = np.arange(10, dtype=np.uint8).repeat(4).reshape(10, 2, 2)
    source = split_in_two(ArraySplit(images, np.array([0, 1] * 5), "set"), ("a", "b"), 0.4, 3)
    names = set()
    for split in (source.train, source.val):
        for index in range(len(split)):
            number = int(split.identity(index).removeprefix("set/"))
            assert split.image(index).getpixel((0, 0)) == number
            assert split.target(index) == number % 2
            names.add(number)
    assert names == set(range(10))
