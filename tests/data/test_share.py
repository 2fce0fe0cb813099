"""Parts of a batch: together they are the batch of a single process, whatever the number of processes."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from zoo.data.arrays import ArraySplit
from zoo.data.dataset import Key, Sample
from zoo.data.imagefolder import FolderSplit
from zoo.data.loader import stack
from zoo.data.loading import TrainBatches, ValBatches
from zoo.data.mix import Mix
from zoo.data.share import Part, Plan, Share
from zoo.errors import DataError
from zoo.recipe.schema import DataTable
from zoo.registry.contracts import InputSpec, Split
from zoo.train.loop import count_pieces

SPEC = InputSpec(size=(8, 8), crop_pct=1)
HERE = DataTable(workers=0, augment="standard")
SKIP = DataTable(workers=0, on_bad_image="skip")
COUNTS = st.integers(1, 40)
PROCESSES = st.integers(1, 6)


def keys_of(count: int) -> list[Key]:
    """A batch in no order; no index is a place."""
    return [(2, 100 + index) for index in np.random.default_rng(count).permutation(count).tolist()]


def plans_of(keys: list[Key], processes: int, mixes: bool, least: int) -> list[Plan]:
    return [Share(rank, processes, mixes).plan(keys, least) for rank in range(processes)]


def own_keys(plan: Plan) -> list[Key]:
    return plan.keys[plan.lead : plan.lead + len(plan.own)]


@given(count=COUNTS, processes=PROCESSES, mixes=st.booleans(), least=st.integers(1, 4))
def test_the_own_parts_are_the_batch_as_tensor_split_cuts_it(
    count: int, processes: int, mixes: bool, least: int
) -> None:
    keys = keys_of(count)
    plans = plans_of(keys, processes, mixes, least)
    cut = [[keys[place] for place in part.tolist()] for part in torch.arange(count).tensor_split(processes)]
    assert [own_keys(plan) for plan in plans] == cut
    assert [plan.own for plan in plans] == [{index for _, index in part} for part in cut]
    assert {plan.whole for plan in plans} == {count}


@given(count=COUNTS, processes=PROCESSES, mixes=st.booleans(), least=st.integers(1, 4))
def test_every_process_has_something_to_compute_and_no_image_twice(
    count: int, processes: int, mixes: bool, least: int
) -> None:
    keys = keys_of(count)
    for plan in plans_of(keys, processes, mixes, least):
        computed = plan.keys[plan.lead :]
        assert len(computed) == max(len(plan.own), min(least, count))
        assert len({*computed}) == len(computed)
        assert {*computed} <= {*keys}


@given(count=COUNTS, processes=PROCESSES, least=st.integers(1, 4))
def test_the_lead_is_the_image_before_and_there_only_when_images_are_mixed(
    count: int, processes: int, least: int
) -> None:
    keys = keys_of(count)
    starts = [
        sum(len(part) for part in torch.arange(count).tensor_split(processes)[:rank]) for rank in range(processes)
    ]
    for rank, plan in enumerate(plans_of(keys, processes, True, least)):
        if processes == 1:
            assert (plan.lead, plan.keys) == (0, keys)
        else:
            assert (plan.lead, plan.keys[0]) == (1, keys[starts[rank] - 1])
    assert {plan.lead for plan in plans_of(keys, processes, False, least)} == {0}


def sample(key: Key) -> Sample:
    return Sample(torch.full((3, 1, 1), key[1], dtype=torch.uint8), key[1] % 3, key[1])


@given(count=COUNTS, processes=st.integers(2, 6), mixes=st.booleans(), least=st.integers(1, 3), data=st.data())
def test_what_counts_are_the_own_good_images_whatever_is_bad_and_stands_in(
    count: int, processes: int, mixes: bool, least: int, data: Any
) -> None:
    keys = keys_of(count)
    bad = data.draw(st.sets(st.sampled_from(keys), max_size=count - 1))
    good = [key for key in keys if key not in bad]
    for rank, plan in enumerate(plans_of(keys, processes, mixes, least)):
        loaded = [key for key in plan.keys if key not in bad]
        others = [*data.draw(st.permutations(good)), (2, 250), (2, 251), (2, 252)]
        loaded += others[: len(plan.keys) - len(loaded)]
        part = Share(rank, processes, mixes).part(plan, stack([sample(key) for key in loaded]))
        rows = part.indices.tolist()[part.lead : part.lead + part.own]
        assert rows == [index for _, index in own_keys(plan) if (2, index) in good]
        assert part.lead == int(plan.lead and plan.keys[0] in good)
        assert part.whole == count


def test_what_stands_in_for_a_bad_image_does_not_count() -> None:
    keys = keys_of(4)
    share = Share(mixes=True)
    part = share.part(share.plan(keys, 2), stack([sample(key) for key in [*keys[1:], (2, 250)]]))
    assert (part.own, part.whole, part.lead) == (3, 4, 0)


@given(batch_size=st.integers(1, 64), accumulate=st.integers(1, 64), processes=PROCESSES, data=st.data())
def test_no_process_has_fewer_images_than_micro_batches(
    batch_size: int, accumulate: int, processes: int, data: Any
) -> None:
    images = data.draw(st.integers(1, batch_size))
    pieces = count_pieces(images, batch_size, accumulate, processes)
    micro = -(-batch_size // accumulate)
    assert 1 <= pieces <= accumulate
    for plan in plans_of(keys_of(images), processes, False, 2):
        sizes = [len(piece) for piece in torch.arange(len(plan.keys)).tensor_split(pieces)]
        assert min(sizes) >= (1 if micro <= processes else min(2, images))


# Through the batches of an epoch.


def pictures(count: int) -> ArraySplit:
    images = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return ArraySplit(images, np.arange(count) % 3, "n")


def folder(root: Path, count: int, bad: Iterable[int]) -> FolderSplit:
    root.mkdir(exist_ok=True)
    names = [f"{index}.png" for index in range(count)]
    for index, name in enumerate(names):
        if index in bad:
            (root / name).write_bytes(b"no image")
        else:
            Image.new("L", (4, 4), index).save(root / name)
    return FolderSplit(root, names, [index % 2 for index in range(count)])


def train(split: Split, batch_size: int, share: Share, table: DataTable = HERE) -> TrainBatches:
    return TrainBatches(split, SPEC, table, batch_size=batch_size, seed=5, share=share)


def val(split: Split, batch_size: int, share: Share, table: DataTable = HERE) -> ValBatches:
    return ValBatches(split, SPEC, table, batch_size=batch_size, share=share)


def shares(processes: int, mixes: bool = False) -> list[Share]:
    return [Share(rank, processes, mixes) for rank in range(processes)]


def own(parts: Iterable[Part], name: str) -> Tensor:
    return torch.cat([getattr(part, name)[part.lead : part.lead + part.own] for part in parts])


def steps(iterators: Iterable[Iterator[Part]]) -> list[tuple[Part, ...]]:
    """The parts of each step, by rank; every process has the same number of steps."""
    return list(zip(*iterators, strict=True))


def assert_same(together: list[tuple[Part, ...]], alone: list[Part]) -> None:
    assert len(together) == len(alone)
    for parts, batch in zip(together, alone, strict=True):
        for name in ("images", "targets", "indices"):
            assert torch.equal(own(parts, name), getattr(batch, name)), name


@given(
    count=st.integers(1, 30),
    batch_size=st.integers(1, 12),
    processes=PROCESSES,
    mixes=st.booleans(),
    epoch=st.integers(0, 3),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_an_epoch_is_that_of_one_process_bit_for_bit(
    count: int, batch_size: int, processes: int, mixes: bool, epoch: int, data: Any
) -> None:
    split = pictures(count)
    alone = train(split, batch_size, Share())
    start = data.draw(st.integers(0, alone.steps_per_epoch))
    several = [train(split, batch_size, share) for share in shares(processes, mixes)]
    found = steps(batches.epoch(epoch, start) for batches in several)
    assert_same(found, list(alone.epoch(epoch, start)))
    assert_same(steps(batches.everything() for batches in several), list(alone.everything()))
    for parts in found:
        planned = parts[0].whole
        assert all(len(part) - part.lead == max(part.own, min(2, planned)) for part in parts)
        assert all(part.whole == planned for part in parts)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_for_any_number_of_workers(workers: int) -> None:
    table = DataTable(workers=workers, augment="trivial")
    alone = list(train(pictures(23), 8, Share(), DataTable(workers=0, augment="trivial")).epoch(1, 1))
    counted = list(val(pictures(23), 8, Share()))
    with ExitStack() as ends:
        several = [ends.enter_context(closing(train(pictures(23), 8, share, table))) for share in shares(3, True)]
        assert_same(steps(batches.epoch(1, 1) for batches in several), alone)
        measured = [ends.enter_context(closing(val(pictures(23), 8, share, table))) for share in shares(3)]
        assert_same(steps(map(iter, measured)), counted)


@given(count=st.integers(1, 30), batch_size=st.integers(1, 12), processes=PROCESSES)
@settings(max_examples=40, deadline=None)
def test_validation_counts_each_image_once_in_order(count: int, batch_size: int, processes: int) -> None:
    found = steps(iter(val(pictures(count), batch_size, share)) for share in shares(processes))
    assert_same(found, list(val(pictures(count), batch_size, Share())))
    assert torch.cat([own(parts, "indices") for parts in found]).tolist() == list(range(count))
    assert all(len(part) == max(1, part.own) for parts in found for part in parts)


BAD = {
    "none": set[int](),
    "here and there": {2, 11, 12, 17},
    "every other": set(range(0, 23, 2)),
    "whole batches of validation": set(range(8, 17)),
}


@pytest.mark.parametrize("mixes", [False, True])
@pytest.mark.parametrize("processes", [2, 3, 5])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_images_are_skipped_as_by_one_process(tmp_path: Path, bad: set[int], processes: int, mixes: bool) -> None:
    split = folder(tmp_path, 23, bad)
    alone = train(split, 8, Share(), SKIP)
    several = [train(split, 8, share, SKIP) for share in shares(processes, mixes)]
    order = [alone.order(3)[start : start + 8] for start in range(0, 23, 8)]
    for start in (0, 1):
        found = steps(batches.epoch(3, start) for batches in several)
        assert [own(parts, "indices").tolist() for parts in found] == [
            [index for index in planned if index not in bad] for planned in order[start:]
        ]
        assert_same(found, list(alone.epoch(3, start)))
        for parts, planned in zip(found, order[start:], strict=True):
            plans = plans_of([(3, index) for index in planned], processes, mixes, 2)
            assert [len(part) for part in parts] == [len(plan.keys) for plan in plans]
            assert all(not bad & {*part.indices.tolist()} for part in parts)
    assert {image.index for batches in several for image in batches.bad} == bad


@pytest.mark.parametrize("processes", [2, 3, 5])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_validation_counts_each_good_image_once(tmp_path: Path, bad: set[int], processes: int) -> None:
    split = folder(tmp_path, 23, bad)
    several = [val(split, 4, share, SKIP) for share in shares(processes)]
    found = steps(map(iter, several))
    assert torch.cat([own(parts, "indices") for parts in found]).tolist() == [i for i in range(23) if i not in bad]
    assert len(found) == len(several[0]) == 6
    assert all(len(part) >= 1 for parts in found for part in parts)
    assert {image.index for batches in several for image in batches.bad} == bad


def test_where_every_image_is_bad_every_process_says_so(tmp_path: Path) -> None:
    split = folder(tmp_path, 3, {0, 1, 2})
    first = train(split, 2, Share(), SKIP).order(0)[0]
    bad = "it is in no image format that Pillow reads"
    for share in shares(3):
        with pytest.raises(DataError) as refused:
            list(train(split, 3, share, SKIP).epoch(0))
        where, mend = f"'0.png': {bad}", "look at what the data source reads"
        assert str(refused.value) == f"not one training image can be decoded\n  where: {where}\n  mend:  {mend}"
        with pytest.raises(DataError) as refused:
            list(val(split, 2, share, SKIP))
        assert str(refused.value) == f"not one validation image can be decoded\n  where: {where}\n  mend:  {mend}"
    with pytest.raises(DataError) as refused:
        list(train(split, 2, Share(0, 3)).epoch(0))
    mend = 'mend or remove it, or set data.on_bad_image = "skip"'
    assert str(refused.value) == f"image '{first}.png' cannot be used: {bad}\n  mend:  {mend}"


# Mixed.


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
@given(count=st.integers(1, 30), processes=PROCESSES, seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_mixed_parts_are_the_mixed_batch_cut(
    mixup: float, cutmix: float, count: int, processes: int, seed: int
) -> None:
    mix = Mix(mixup, cutmix, classes=3)

    def mixed(part: Part) -> tuple[Tensor, Tensor]:
        images, targets = mix(part.images.float(), part.targets, seed)
        return images[part.lead :][: part.own], targets[part.lead :][: part.own]

    batch = next(train(pictures(count), count, Share()).epoch(0))
    parts = [mixed(next(train(pictures(count), count, share).epoch(0))) for share in shares(processes, mixes=True)]
    images, targets = mixed(batch)
    for part, wanted, labels in zip(
        parts, images.tensor_split(processes), targets.tensor_split(processes), strict=True
    ):
        assert torch.equal(part[0], wanted)
        assert torch.equal(part[1], labels)
