"""The batches of an epoch: which images, in which order. What becomes of images that cannot be decoded is said here."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice

import torch

from zoo.data.augment import augmentation
from zoo.data.dataset import BadImage, ImageDataset, Key, Sample
from zoo.data.loader import Batch, Loader, Source, stack
from zoo.data.share import Part, Share
from zoo.errors import DataError
from zoo.recipe.schema import DataTable
from zoo.registry.contracts import InputSpec, Split
from zoo.seeds import derive

ALONE = Share()
"""The share of a run's only process."""

Others = Callable[[int], Iterable[Key]]
"""From a batch's place (from 0) to images that may stand in for bad ones of it."""


class _Batches:
    """What training and validation batches have in common."""

    _loader: Loader
    _share: Share
    split_name: str
    """"training" or "validation"."""

    def _parts(
        self, source: Source, batches: Sequence[list[Key]], others: Others, least: int, share: Share
    ) -> Iterator[Part]:
        """Yield this process's part of each batch, of `least` images where there are so many.

        Bad images are missing. With several processes others stand in for them: all wait for one that has less to do.
        """
        plans = [share.plan(keys, max(1, least)) for keys in batches]
        loaded = source.load([plan.keys for plan in plans])
        for place, (plan, batch) in enumerate(zip(plans, loaded, strict=True)):
            wanted = len(plan.keys) if share.processes > 1 else min(least, len(plan.keys))
            if batch is None or len(batch) < wanted:
                batch = self._filled(source, batch, others(place), wanted)
            if batch is not None:
                yield share.part(plan, batch)

    def _filled(self, source: Source, batch: Batch | None, others: Iterable[Key], wanted: int) -> Batch | None:
        samples = _samples(batch)
        for key in others:
            if len(samples) >= wanted:
                break
            sample = source.load_here(key)
            samples += [sample] if sample else []
        if wanted and not samples:
            raise _none_left(self.split_name, self.bad)
        if self._share.processes > 1:
            samples = [*samples, *islice(cycle(samples), wanted - len(samples))]
        return stack(samples) if samples else None

    def _whole(self, source: Source, keys: list[Key], size: int) -> Iterator[Part]:
        """Yield this process's part of every good image, in order. DataError: there is none."""
        empty, share = True, replace(self._share, mixes=False)
        for part in self._parts(source, _cut(keys, size), lambda place: keys[place * size :] + keys, 0, share):
            empty = False
            yield part
        if empty:
            raise _none_left(self.split_name, self.bad)

    @property
    def bad(self) -> tuple[BadImage, ...]:
        """The images found bad so far, each once, by their index."""
        return tuple(self._loader.bad[index] for index in sorted(self._loader.bad))

    def close(self) -> None:
        """End the worker processes. Iterating again starts new ones."""
        self._loader.close()


class TrainBatches(_Batches):
    """The training images in batches of one optimiser step, in a new order every epoch.

    Order and augmentation are pure functions of (seed, epoch, index): the same for any number of workers and after a
    resume. One iteration at a time: starting another ends the one before.

    Every epoch has the same number of steps and every batch at least two images where the plan has two, because batch
    norm needs them: a last batch of a single image is left out (unless `batch_size` is 1, or it is the only one), and a
    batch that bad images leave with fewer is filled with the good images that follow it in the epoch's order. Those do
    not count.
    """

    split_name = "training"

    def __init__(
        self, split: Split, spec: InputSpec, table: DataTable, *, batch_size: int, seed: int, share: Share = ALONE
    ) -> None:
        self._split = split
        self._batch_size = batch_size
        self._seed = seed
        self._share = share
        self._loader = Loader(ImageDataset(split, augmentation(table.augment, spec), seed), table)

    @property
    def images(self) -> int:
        """Images of the split, bad ones included."""
        return len(self._split)

    @property
    def images_per_epoch(self) -> int:
        """Images that an epoch plans to show, bad ones included."""
        lone = self._batch_size > 1 and len(self._split) > self._batch_size and len(self._split) % self._batch_size == 1
        return len(self._split) - int(lone)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch, the ragged last one included."""
        return -(-self.images_per_epoch // self._batch_size)

    def everything(self) -> Iterator[Part]:
        """Yield this process's part of every good image, in the split's order. DataError: as `epoch`."""
        yield from self._whole(self._loader, [(0, index) for index in range(len(self._split))], self._batch_size)

    def epoch(self, epoch: int, start_step: int = 0, source: Source | None = None) -> Iterator[Part]:
        """Yield this process's part of the epoch's batches from `start_step` (from 0) on; those before are not decoded.

        They come from `source`, which has every good image, or are decoded when it is None. DataError: a bad image
        where none may be skipped, or no image at all that can be decoded.
        """
        order = [(epoch, index) for index in self.order(epoch)]
        planned = _cut(order[: self.images_per_epoch], self._batch_size)

        def following(place: int) -> Iterable[Key]:
            after = (start_step + place + 1) * self._batch_size
            return (*order[after:], *order[:after])

        yield from self._parts(source or self._loader, planned[start_step:], following, 2, self._share)

    def order(self, epoch: int) -> list[int]:
        """Return the permutation of the split's indices that `epoch` (from 0) follows."""
        generator = torch.Generator().manual_seed(derive(self._seed, "order", epoch))
        order: list[int] = torch.randperm(len(self._split), generator=generator).tolist()
        return order


class ValBatches(_Batches):
    """The validation images in order, every good one counted exactly once, whatever stands beside it."""

    split_name = "validation"

    def __init__(
        self, split: Split, spec: InputSpec, table: DataTable, *, batch_size: int, share: Share = ALONE
    ) -> None:
        self.split = split
        self._keys = [(0, index) for index in range(len(split))]
        self._batch_size = batch_size
        self._share = share
        self._loader = Loader(ImageDataset(split, augmentation("none", spec), 0), table)

    @property
    def images(self) -> int:
        """Images of the split, bad ones included."""
        return len(self._keys)

    def __len__(self) -> int:
        """Return the number of batches, those included that bad images may leave empty."""
        return -(-len(self._keys) // self._batch_size)

    def __iter__(self) -> Iterator[Part]:
        """Yield this process's part of the batches.

        DataError: a bad image where none may be skipped, or none that can be decoded.
        """
        return self.of(self._loader)

    def of(self, source: Source) -> Iterator[Part]:
        """Yield its part of the batches from a source that has every good image."""
        yield from self._whole(source, self._keys, self._batch_size)


def _samples(batch: Batch | None) -> list[Sample]:
    if batch is None:
        return []
    rows = zip(batch.images, batch.targets.tolist(), batch.indices.tolist(), strict=True)
    return [Sample(image, target, index) for image, target, index in rows]


def _cut(keys: list[Key], size: int) -> list[list[Key]]:
    return [keys[start : start + size] for start in range(0, len(keys), size)]


def _none_left(split: str, bad: Sequence[BadImage]) -> DataError:
    reasons = [f"{image.identity!r}: {image.reason}" for image in bad[:1]]
    return DataError(f"not one {split} image can be decoded", "".join(reasons), "look at what the data source reads")
