"""The batches of an epoch: which images, in which order. What becomes of images that cannot be decoded is said here."""

from collections.abc import Iterator, Sequence

import torch

from zoo.data.augment import augmentation
from zoo.data.dataset import BadImage, ImageDataset, Key, Sample
from zoo.data.loader import Batch, Loader, Source, stack
from zoo.errors import DataError
from zoo.recipe.schema import DataTable
from zoo.registry.contracts import InputSpec, Split
from zoo.seeds import derive


class _Batches:
    """What training and validation batches share."""

    _loader: Loader
    split_name: str
    """"training" or "validation"."""

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
    batch that bad images leave with fewer is filled with the good images that follow it in the epoch's order.
    """

    split_name = "training"

    def __init__(self, split: Split, spec: InputSpec, table: DataTable, *, batch_size: int, seed: int) -> None:
        self._split = split
        self._batch_size = batch_size
        self._seed = seed
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

    def everything(self) -> Iterator[Batch]:
        """Yield every good image once, in the split's order. DataError: as `epoch`."""
        yield from _good(self._loader, _cut([(0, index) for index in range(len(self._split))], self._batch_size), self)

    def epoch(self, epoch: int, start_step: int = 0, source: Source | None = None) -> Iterator[Batch]:
        """Yield the epoch's batches from `start_step` (from 0) on; those before it are not decoded.

        They come from `source`, which has every good image, or are decoded when it is None. DataError: a bad image
        where none may be skipped, or no image at all that can be decoded.
        """
        order = self.order(epoch)
        planned = _cut([(epoch, index) for index in order[: self.images_per_epoch]], self._batch_size)
        source = source or self._loader
        for step, batch in enumerate(source.load(planned[start_step:]), start_step):
            wanted = min(2, len(planned[step]))
            if batch is not None and len(batch) >= wanted:
                yield batch
            else:
                after = (step + 1) * self._batch_size
                yield self._filled(
                    source, batch, [(epoch, index) for index in (*order[after:], *order[:after])], wanted
                )

    def order(self, epoch: int) -> list[int]:
        """Return the permutation of the split's indices that `epoch` (from 0) follows."""
        generator = torch.Generator().manual_seed(derive(self._seed, "order", epoch))
        order: list[int] = torch.randperm(len(self._split), generator=generator).tolist()
        return order

    def _filled(self, source: Source, batch: Batch | None, following: Sequence[Key], wanted: int) -> Batch:
        samples = _samples(batch)
        for key in following:
            if len(samples) >= wanted:
                break
            sample = source.load_here(key)
            samples += [sample] if sample else []
        if not samples:
            raise _none_left(self.split_name, self.bad)
        return stack(samples)


class ValBatches(_Batches):
    """The validation images in order, every good one exactly once: nothing is padded, repeated or dropped."""

    split_name = "validation"

    def __init__(self, split: Split, spec: InputSpec, table: DataTable, *, batch_size: int) -> None:
        keys = [(0, index) for index in range(len(split))]
        self._batches = _cut(keys, batch_size)
        self._loader = Loader(ImageDataset(split, augmentation("none", spec), 0), table)

    @property
    def images(self) -> int:
        """Images of the split, bad ones included."""
        return sum(map(len, self._batches))

    def __len__(self) -> int:
        """Return the number of batches, those included that bad images may leave empty."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches. DataError: a bad image where none may be skipped, or none that can be decoded."""
        return self.of(self._loader)

    def of(self, source: Source) -> Iterator[Batch]:
        """Yield the batches from a source that has every good image."""
        yield from _good(source, self._batches, self)


def _good(source: Source, keys: Sequence[list[Key]], batches: _Batches) -> Iterator[Batch]:
    empty = True
    for batch in source.load(keys):
        if batch is not None:
            empty = False
            yield batch
    if empty:
        raise _none_left(batches.split_name, batches.bad)


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
