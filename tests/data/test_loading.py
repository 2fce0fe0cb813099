import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing import active_children, resource_sharer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.runs.processes import wait_for
from zoo.data import loader
from zoo.data.arrays import ArraySplit
from zoo.data.digits import build
from zoo.data.imagefolder import FolderSplit
from zoo.data.loader import Batch
from zoo.data.loading import TrainBatches, ValBatches
from zoo.errors import DataError
from zoo.recipe.schema import DataTable
from zoo.registry.contracts import InputSpec
from zoo.registry.parts import NoOptions

SPEC = InputSpec(size=(8, 8), crop_pct=1)
HERE = DataTable(workers=0)
SKIP = DataTable(workers=0, on_bad_image="skip")


def numbers(count: int) -> ArraySplit:
    """Images whose every pixel is their index."""
    return ArraySplit(np.arange(count, dtype=np.uint8).repeat(4).reshape(count, 2, 2), np.arange(count) % 3, "n")


def train(count: int, batch_size: int, table: DataTable = HERE, seed: int = 0) -> TrainBatches:
    return TrainBatches(numbers(count), SPEC, table, batch_size=batch_size, seed=seed)


def indices(batches: Iterator[Batch]) -> list[list[int]]:
    return [batch.indices.tolist() for batch in batches]


def folder(root: Path, count: int, bad: set[int]) -> FolderSplit:
    names = [f"{index}.png" for index in range(count)]
    for index, name in enumerate(names):
        if index in bad:
            (root / name).write_bytes(b"no image")
        else:
            Image.new("L", (4, 4), index).save(root / name)
    return FolderSplit(root, names, [index % 2 for index in range(count)])


@given(count=st.integers(1, 40), batch_size=st.integers(1, 12), epoch=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_an_epoch_is_a_permutation_in_whole_batches(count: int, batch_size: int, epoch: int) -> None:
    batches = train(count, batch_size)
    shown = indices(batches.epoch(epoch))
    flat = [index for batch in shown for index in batch]
    lone = count > batch_size > 1 and count % batch_size == 1
    assert sorted(batches.order(epoch)) == list(range(count))
    assert flat == batches.order(epoch)[: count - lone]
    assert all(len(batch) == batch_size for batch in shown[:-1])
    assert (batches.steps_per_epoch, batches.images_per_epoch) == (len(shown), len(flat))
    assert batch_size == 1 or count == 1 or all(len(batch) > 1 for batch in shown)


def test_a_batch() -> None:
    batch = next(train(20, 6).epoch(0))
    assert len(batch) == 6
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (6, 3, 8, 8)
    assert batch.targets.dtype == batch.indices.dtype == torch.int64
    assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.indices)
    assert torch.equal(batch.targets, batch.indices % 3)


def test_the_order_is_drawn_by_seed_and_epoch() -> None:
    batches = train(50, 8)
    assert batches.order(0) == train(50, 8).order(0) != train(50, 8, seed=1).order(0)
    assert batches.order(0) != batches.order(1)


@pytest.mark.parametrize("start", [0, 3, 6, 7])
def test_going_on_in_the_middle_of_an_epoch(start: int) -> None:
    batches = train(52, 8)
    assert indices(batches.epoch(2, start)) == indices(batches.epoch(2))[start:]


def test_batches_gone_by_are_not_decoded(tmp_path: Path) -> None:
    split = folder(tmp_path, 12, set())
    batches = TrainBatches(split, SPEC, HERE, batch_size=4, seed=0)
    for index in batches.order(0)[:8]:
        (tmp_path / f"{index}.png").unlink()
    assert indices(batches.epoch(0, 2)) == [batches.order(0)[8:]]


def test_the_callers_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    for workers in (0, 1):
        with closing(train(10, 4, DataTable(workers=workers, augment="standard"))) as batches:
            list(batches.epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("augment", ["standard", "trivial"])
def test_the_same_bits_for_any_number_of_workers(augment: str) -> None:
    split = build(NoOptions(), 0).val
    seen = []
    for workers in (0, 1, 2):
        table = DataTable(workers=workers, augment=augment)
        with closing(TrainBatches(split, SPEC, table, batch_size=50, seed=3)) as batches:
            epochs = [[*batches.epoch(0)], [*batches.epoch(1)], [*batches.epoch(1, 4)]]
        seen.append([batch for epoch in epochs for batch in epoch])
    for first, *others in zip(*seen, strict=True):
        for other in others:
            assert torch.equal(first.images, other.images)
            assert torch.equal(first.targets, other.targets)
            assert torch.equal(first.indices, other.indices)


def test_no_two_samples_draw_the_same_augmentation() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32), dtype=np.uint8)
    split = ArraySplit(picture.repeat(16, axis=0), np.zeros(16, np.int64), "same")
    with closing(TrainBatches(split, SPEC, DataTable(workers=2, augment="standard"), batch_size=4, seed=0)) as batches:
        images = torch.cat([batch.images for epoch in range(2) for batch in batches.epoch(epoch)])
    assert len(images.flatten(1).unique(dim=0)) == 32


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_broken_off_does_not_spoil_the_next(workers: int) -> None:
    with closing(train(40, 4, DataTable(workers=workers))) as batches:
        next(batches.epoch(0))
        assert indices(batches.epoch(1)) == indices(train(40, 4).epoch(1))


def test_closing_ends_the_workers_and_iterating_starts_new_ones() -> None:
    batches = train(40, 4, DataTable(workers=2))
    next(batches.epoch(0))
    workers = active_children()
    assert len(workers) == 2
    batches.close()
    assert not any(worker in active_children() for worker in workers)
    assert len(indices(batches.epoch(0))) == 10
    batches.close()
    batches.close()


@given(count=st.integers(1, 40), batch_size=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_validation_shows_every_image_once_in_order(count: int, batch_size: int) -> None:
    batches = ValBatches(numbers(count), SPEC, HERE, batch_size=batch_size)
    shown = indices(iter(batches))
    assert [index for batch in shown for index in batch] == list(range(count))
    assert len(batches) == len(shown)


def test_validation_again_and_with_workers() -> None:
    with closing(ValBatches(numbers(30), SPEC, DataTable(workers=2), batch_size=7)) as batches:
        first, second = list(batches), list(batches)
    alone = list(ValBatches(numbers(30), SPEC, DataTable(workers=0, augment="trivial"), batch_size=30))
    for shown in (first, second):
        assert torch.equal(torch.cat([batch.images for batch in shown]), alone[0].images)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_stops_training_and_validation(tmp_path: Path, workers: int) -> None:
    split = folder(tmp_path, 6, {2})
    table = DataTable(workers=workers)
    text = "image '2.png' cannot be used: it is in no image format that Pillow reads"
    both = (TrainBatches(split, SPEC, table, batch_size=2, seed=0), ValBatches(split, SPEC, table, batch_size=2))
    for batches in both:
        with closing(batches), pytest.raises(DataError) as refused:
            list(batches.epoch(0) if isinstance(batches, TrainBatches) else batches)
        assert str(refused.value).startswith(text)
        assert refused.value.problems[0].hint == 'mend or remove it, or set data.on_bad_image = "skip"'


def test_a_skipped_image_is_listed_once(tmp_path: Path) -> None:
    batches = TrainBatches(folder(tmp_path, 20, {2, 11}), SPEC, SKIP, batch_size=10, seed=0)
    for epoch in range(3):
        shown = [index for batch in indices(batches.epoch(epoch)) for index in batch]
        assert sorted(shown) == [index for index in range(20) if index not in (2, 11)]
    assert [(image.index, image.identity) for image in batches.bad] == [(2, "2.png"), (11, "11.png")]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_bad_images_change_no_step_count_and_leave_no_lone_image(tmp_path: Path, batch_size: int) -> None:
    batches = TrainBatches(folder(tmp_path, 12, set(range(9))), SPEC, SKIP, batch_size=batch_size, seed=0)
    shown = indices(batches.epoch(0))
    assert len(shown) == batches.steps_per_epoch
    assert all(len(batch) >= min(2, batch_size) for batch in shown)
    assert {index for batch in shown for index in batch} <= {9, 10, 11}
    assert indices(batches.epoch(0, 2)) == shown[2:]


def test_validation_goes_on_past_a_batch_of_bad_images(tmp_path: Path) -> None:
    batches = ValBatches(folder(tmp_path, 7, {2, 3, 5}), SPEC, SKIP, batch_size=2)
    assert indices(iter(batches)) == [[0, 1], [4], [6]]
    assert [image.index for image in batches.bad] == [2, 3, 5]


def test_nothing_but_bad_images(tmp_path: Path) -> None:
    split = folder(tmp_path, 3, {0, 1, 2})
    with pytest.raises(DataError, match=r"^not one training image can be decoded\n  where: '0.png': it is in no image"):
        list(TrainBatches(split, SPEC, SKIP, batch_size=2, seed=0).epoch(0))
    with pytest.raises(
        DataError, match=r"^not one validation image can be decoded\n  where: '0.png': it is in no image"
    ):
        list(ValBatches(split, SPEC, SKIP, batch_size=2))


def test_an_interrupt_leaves_the_workers_to_the_main_process(capfd: pytest.CaptureFixture[str]) -> None:
    with closing(train(40, 4, DataTable(workers=2))) as batches:
        passing = batches.epoch(0)
        next(passing)
        for worker in active_children():
            os.kill(worker.pid or 0, signal.SIGINT)
        assert len(indices(passing)) == 9
    assert capfd.readouterr().err == ""


class _Dies(ArraySplit):
    def image(self, index: int) -> Image.Image:
        os._exit(9)


def test_a_worker_that_is_killed_is_explained() -> None:
    split = _Dies(np.zeros((4, 2, 2), np.uint8), np.zeros(4, np.int64), "n")
    batches = TrainBatches(split, SPEC, DataTable(workers=1), batch_size=2, seed=0)
    with closing(batches), pytest.raises(DataError) as refused:
        list(batches.epoch(0))
    assert str(refused.value).startswith("a loader process ended: DataLoader worker (pid")
    assert str(refused.value).endswith("  where: data.workers\n  mend:  set fewer workers: memory may be short")


class _Breaks(ArraySplit):
    """In a worker: while the second batch waits to be fetched, it takes no more calls for tensors, and is killed."""

    def __init__(self, folder: Path, lives: float) -> None:
        super().__init__(np.zeros((6, 2, 2), np.uint8), np.zeros(6, np.int64), "n")
        self.folder, self.lives, self.calls = folder, lives, 0

    def image(self, index: int) -> Image.Image:
        self.calls += 1
        if self.calls == 5:  # of the third batch
            wait_for(self.folder / "one fetched")
            resource_sharer._resource_sharer._listener.close()  # type: ignore[attr-defined]
            (self.folder / "cut").touch()
            time.sleep(self.lives)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().image(index)


@contextmanager
def cut_off(folder: Path, lives: float) -> Iterator[Iterator[Batch]]:
    """An epoch whose worker, which goes on for some seconds, does not answer when the next batch is fetched."""
    batches = TrainBatches(_Breaks(folder, lives), SPEC, DataTable(workers=1), batch_size=2, seed=0)
    with closing(batches):
        passing = batches.epoch(0)
        next(passing)
        (folder / "one fetched").touch()
        wait_for(folder / "cut")
        yield passing


def test_a_worker_that_is_killed_while_it_hands_a_batch_over(tmp_path: Path) -> None:
    """Its connections are cut some time before it counts as ended."""
    with cut_off(tmp_path, lives=0.5) as passing, pytest.raises(DataError) as refused:
        next(passing)
    assert str(refused.value).startswith("a loader process ended: DataLoader worker (pid")


def test_a_worker_that_goes_on_is_not_said_to_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor that it does so later, when it is ended anyway."""
    monkeypatch.setattr(loader, "ENDING", 0.1)
    with cut_off(tmp_path, lives=2) as passing, pytest.raises(FileNotFoundError):
        next(passing)
