"""The data source `hf`: splits of a data set of Hugging Face's `datasets`; images are decoded when asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import zoo
from datasets.exceptions import DatasetsError
from PIL.Image import Image

from zoo_hf.columns import Columns, find_columns
from zoo_hf.labels import Labels, class_names, read_labels
from zoo_hf.plugin import HfDataOptions
from zoo_hf.stream import keep

VALIDATION = ("validation", "valid", "val", "dev")
"""What data sets call a validation split; a test split is not taken for one."""


class HfSplit:
    """Rows of a memory-mapped data set: encoded images and class indices. `name` stands before each row's number."""

    def __init__(self, images: Any, column: str, targets: Sequence[int], name: str) -> None:
        self._images = images
        self._column = column
        self._targets = list(targets)
        self._name = name

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._targets)

    def image(self, index: int) -> Image:
        """Return the image as stored. OSError, ValueError: it cannot be decoded, or there is none in the row."""
        stored = self._images[index][self._column]
        if stored is None or (stored["bytes"] is None and stored["path"] is None):
            raise ValueError("the row has no image")
        return zoo.open_image(Path(stored["path"]) if stored["bytes"] is None else stored["bytes"])

    def target(self, index: int) -> int:
        """Return the class index."""
        return self._targets[index]

    def identity(self, index: int) -> str:
        """Return `data set/split/row`."""
        return f"{self._name}/{index}"


def build(options: HfDataOptions, seed: int) -> zoo.DataSource:
    """Return the data set's splits; without a validation split the one for training is split by `val_fraction`.

    ZooError: it cannot be opened, has no such split or column, more than one column would do, or a row has no label.
    """
    datasets.disable_progress_bars()
    splits = _open(options)
    train, val = _choose(options, splits)
    if splits[train].features is None:
        what = f"the stream of {options.path!r} does not say what is in its columns"
        raise zoo.ZooError(what, where="[data] streaming", hint="leave streaming out")
    columns = find_columns(splits[train].features, options)
    tables = {name: _table(splits[name], columns, options, name) for name in (train, val) if name}
    found = {name: read_labels(table, columns.label, f"{options.path}/{name}") for name, table in tables.items()}
    classes = class_names(found[train], found[val] if val else None, f"{options.path}/{val}")
    first = _split(tables[train], columns, found[train], classes, options, train)
    if val is None:
        return zoo.split_in_two(first, classes, options.val_fraction, seed)
    return zoo.DataSource(first, _split(tables[val], columns, found[val], classes, options, val), classes)


def _open(options: HfDataOptions) -> Mapping[str, Any]:
    """Return what the data set has, by split."""
    folder = Path(options.path)
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            opened = datasets.load_from_disk(options.path)
            if options.streaming:
                opened = _streams(opened)
        else:
            opened = datasets.load_dataset(
                options.path,
                options.name,
                data_dir=options.data_dir,
                data_files=options.data_files,
                revision=options.revision,
                streaming=options.streaming,
            )
    except (OSError, ValueError, DatasetsError) as error:
        cause = error.__cause__ or error
        what = f"the data set {options.path!r} cannot be opened: {str(cause).splitlines()[0]}"
        raise zoo.ZooError(what, where="[data] path", hint="check path, name, data_files and data_dir") from error
    return opened if isinstance(opened, Mapping) else {options.train: opened}


def _streams(opened: Any) -> Any:
    if isinstance(opened, Mapping):
        return {name: split.to_iterable_dataset() for name, split in opened.items()}
    return opened.to_iterable_dataset()


def _choose(options: HfDataOptions, splits: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return which splits train and validate; None: there is none to validate on."""
    for key, name in (("train", options.train), ("val", options.val)):
        if name is not None and name not in splits:
            what = f"the data set {options.path!r} has no split {name!r}"
            raise zoo.ZooError(what, where=f"[data] {key}", hint=f"it has {', '.join(map(repr, splits))}")
    if options.val == options.train:
        what = f"the split {options.val!r} would train and validate"
        raise zoo.ZooError(what, where="[data] val", hint="leave `val` out to have a share of it validate")
    present = [name for name in VALIDATION if name in splits and name != options.train]
    return options.train, options.val or (present[0] if present else None)


def _table(split: Any, columns: Columns, options: HfDataOptions, name: str) -> Any:
    """Return a split's two columns, memory-mapped, its images undecoded."""
    missing = [column for column in (columns.image, columns.label) if column not in split.features]
    if missing:
        what = f"the split {name!r} has no column {missing[0]!r}, as {options.train!r} has"
        raise zoo.ZooError(what, where=f"[data] {options.path}", hint=f"it has {', '.join(map(repr, split.features))}")
    chosen = split.select_columns([columns.image, columns.label])
    chosen = chosen.cast_column(columns.image, datasets.Image(decode=False))
    return keep(chosen, columns, options, name) if options.streaming else chosen


def _split(
    table: Any, columns: Columns, labels: Labels, classes: Sequence[str], options: HfDataOptions, name: str
) -> HfSplit:
    known = Path(options.path)
    shown = known.resolve().name if known.exists() else options.path
    images = table.select_columns([columns.image])
    return HfSplit(images, columns.image, labels.indices(classes), f"{shown}/{name}")
