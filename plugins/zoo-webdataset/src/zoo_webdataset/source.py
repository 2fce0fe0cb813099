"""The data source `webdataset`: samples of all shards in their order, each image read when it is asked for."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zoo
from PIL.Image import Image

from zoo_webdataset.files import Files, Shard
from zoo_webdataset.index import index_shard
from zoo_webdataset.patterns import find_shards
from zoo_webdataset.plugin import WebDatasetOptions
from zoo_webdataset.shard import Label, Sample, Wanted


@dataclass(frozen=True)
class _Indexed:
    """The shards of a split, as they were when they were indexed, and their samples."""

    shards: tuple[Shard, ...]
    samples: tuple[tuple[Sample, ...], ...]

    @property
    def labels(self) -> list[Label]:
        return [sample.label for samples in self.samples for sample in samples]


class ShardSplit:
    """Samples of several shards: where each image lies, its class index and its key."""

    def __init__(self, indexed: _Indexed, targets: Sequence[int]) -> None:
        every = [sample for samples in indexed.samples for sample in samples]
        self._files = Files(indexed.shards)
        self._keys = [sample.key for sample in every]
        self._offsets = np.asarray([sample.offset for sample in every], dtype=np.int64)
        self._sizes = np.asarray([sample.size for sample in every], dtype=np.int64)
        self._shards = np.repeat(np.arange(len(indexed.samples)), [len(samples) for samples in indexed.samples])
        self._targets = np.asarray(targets, dtype=np.int64)
        self._names = _short_names([shard.path for shard in indexed.shards])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._keys)

    def image(self, index: int) -> Image:
        """Return the image as stored. OSError, ValueError: it cannot be decoded. ZooError: its shard was changed."""
        shard, offset, size = (int(column[index]) for column in (self._shards, self._offsets, self._sizes))
        return zoo.open_image(self._files.read(shard, offset, size))

    def target(self, index: int) -> int:
        """Return the class index."""
        return int(self._targets[index])

    def identity(self, index: int) -> str:
        """Return `shard/key`, the shard named below the folder that all shards of the split lie in."""
        return f"{self._names[int(self._shards[index])]}/{self._keys[index]}"


def build(options: WebDatasetOptions, seed: int) -> zoo.DataSource:
    """Return the splits of the shards; without `val` those for training are split by `val_fraction` and `seed`.

    ZooError: no shard matches, one cannot be used (see `read_shard`), trains and validates, or has a class that is
    none of `classes` or none to train on.
    """
    wanted = Wanted(tuple(options.image), options.label, options.field)
    train = find_shards(options.train, "train")
    val = find_shards(options.val, "val") if options.val is not None else ()
    known = {path.resolve() for path in train}
    both = [path for path in val if path.resolve() in known]
    if both:
        what = f"the shard {str(both[0])!r} would train and validate"
        raise zoo.ZooError(what, where="[data] val", hint="leave `val` out to have a share of the images validate")
    first = _index(train, wanted)
    classes = _class_names(first.labels, options)
    split = ShardSplit(first, _targets(first, classes, "train"))
    if not val:
        return zoo.split_in_two(split, classes, options.val_fraction, seed)
    second = _index(val, wanted)
    return zoo.DataSource(split, ShardSplit(second, _targets(second, classes, "val")), classes)


def _index(paths: Sequence[Path], wanted: Wanted) -> _Indexed:
    shards = tuple(Shard.of(path) for path in paths)
    return _Indexed(shards, tuple(index_shard(path, wanted) for path in paths))


def _class_names(labels: Sequence[Label], options: WebDatasetOptions) -> tuple[str, ...]:
    kinds = {type(label) for label in labels}
    if len(kinds) > 1:
        what = "some labels are class indices and some are class names"
        raise zoo.ZooError(what, where="[data] field", hint="write the shards with one or the other")
    if options.classes:
        return tuple(options.classes)
    numbers = [label for label in labels if isinstance(label, int)]
    if numbers:
        return tuple(str(number) for number in range(max(numbers) + 1))
    return tuple(sorted({str(label) for label in labels}))


def _targets(indexed: _Indexed, classes: Sequence[str], key: str) -> list[int]:
    """Return class indices. ZooError: a label is none of the classes; its sample is named."""
    place: dict[Label, int] = {name: index for index, name in enumerate(classes)}
    place |= {index: index for index in range(len(classes))}
    for shard, samples in zip(indexed.shards, indexed.samples, strict=True):
        for sample in samples:
            if sample.label not in place:
                shown = ", ".join(map(repr, classes[:8])) + (", …" if len(classes) > 8 else "")
                what = f"the label of {sample.key!r} is {sample.label!r}, which is none of the {len(classes)} classes"
                raise zoo.ZooError(what, where=f"[data] {key}: {shard.path}", hint=f"they are {shown}")
    return [place[label] for label in indexed.labels]


def _short_names(paths: Sequence[Path]) -> list[str]:
    root = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(root).as_posix() for path in paths]
