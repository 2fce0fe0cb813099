"""torchvision's classification data sets, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torchvision.datasets
from PIL import Image

from zoo.data.images import open_image, refusing
from zoo.data.split import split_in_two
from zoo.errors import DataError, nearest
from zoo.registry.builtin.data import TorchvisionDataOptions
from zoo.registry.contracts import DataSource


@dataclass(frozen=True)
class Selection:
    """The arguments that select what to train on and what to validate on; without `val` the one set is split."""

    train: Mapping[str, Any]
    val: Mapping[str, Any] | None = None


TRAIN_OR_NOT = Selection({"train": True}, {"train": False})
TRAIN_VAL = Selection({"split": "train"}, {"split": "val"})
TRAIN_TEST = Selection({"split": "train"}, {"split": "test"})
UNDIVIDED = Selection({})

KNOWN: Mapping[str, Selection] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "USPS"), TRAIN_OR_NOT),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "ImageNet", "Imagenette", "PCAM", "RenderedSST2"), TRAIN_VAL),
    **dict.fromkeys(("FER2013", "Food101", "GTSRB", "STL10", "SVHN", "StanfordCars"), TRAIN_TEST),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION", "SUN397"), UNDIVIDED),
    "Country211": Selection({"split": "train"}, {"split": "valid"}),
    "EMNIST": Selection({"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
    "OxfordIIITPet": Selection({"split": "trainval"}, {"split": "test"}),
    "Places365": Selection({"split": "train-standard", "small": True}, {"split": "val", "small": True}),
}
"""One class index an image. A set with a validation split is validated on that, not on its test split."""

LABELS = ("targets", "_labels", "labels", "y")
"""Where torchvision's classes keep the class indices; the others keep (file, class index) pairs in `_samples`."""


class TorchvisionSplit:
    """One data set object of torchvision. `name` stands before each index in identities."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset = dataset
        self._name = name
        self.targets = _targets(dataset)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def image(self, index: int) -> Image.Image:
        """Return the image. OSError, ValueError: it cannot be decoded."""
        with refusing():
            image: Image.Image = self._dataset[index][0]
        return image

    def target(self, index: int) -> int:
        """Return the class index."""
        return int(self.targets[index])

    def identity(self, index: int) -> str:
        """Return `NAME/split/index`."""
        return f"{self._name}/{index}"


def build(options: TorchvisionDataOptions, seed: int) -> DataSource:
    """Return the named set's splits; a set without any is split by `val_fraction` and `seed`.

    DataError: no such set (the nearest are named), or it is not there and may not be downloaded.
    """
    if options.name not in KNOWN:
        raise DataError(
            f"torchvision has no classification data set {options.name!r} that zoo knows",
            "data.name",
            nearest(options.name, KNOWN),
        )
    known = KNOWN[options.name]
    train = _open(options, known.train if options.train is None else options.train)
    chosen = known.val if options.val is None else options.val
    first = TorchvisionSplit(train, options.name if chosen is None else f"{options.name}/train")
    classes = _classes(train, first)
    if chosen is None:
        return split_in_two(first, classes, options.val_fraction, seed)
    return DataSource(first, TorchvisionSplit(_open(options, chosen), f"{options.name}/val"), classes)


def load_stored(path: str | Path) -> Image.Image:
    """Return the image as stored: torchvision's own loader drops transparency and orientation."""
    return open_image(Path(path))


def _open(options: TorchvisionDataOptions, arguments: Mapping[str, Any]) -> Any:
    kind = getattr(torchvision.datasets, options.name)
    parameters = signature(kind).parameters
    given: dict[str, Any] = {"root": options.root, **arguments}
    if "loader" in parameters:
        given.setdefault("loader", load_stored)
    if options.download or "download" in parameters:
        given.setdefault("download", options.download)
    try:
        return kind(**given)
    except (RuntimeError, OSError, ImportError, TypeError, ValueError) as error:
        raise DataError(
            f"torchvision's {options.name} cannot be opened: {error}", str(options.root), _mend(error, options.download)
        ) from error


def _mend(error: Exception, download: bool) -> str:
    if isinstance(error, ImportError):
        return "install the package that it needs"
    if isinstance(error, TypeError | ValueError):
        return "see the class in torchvision's documentation for what data.train and data.val may hold"
    return "" if download else "set data.download = true, or data.root to where it lies"


def _targets(dataset: Any) -> npt.NDArray[np.int64]:
    for name in LABELS:
        labels = getattr(dataset, name, None)
        if labels is not None and len(labels) == len(dataset):
            return np.asarray(labels, dtype=np.int64)
    pairs = getattr(dataset, "_samples", None)
    if pairs is not None and len(pairs) == len(dataset):
        return np.asarray([label for _, label in pairs], dtype=np.int64)
    return np.asarray([dataset[index][1] for index in range(len(dataset))], dtype=np.int64)


def _classes(dataset: Any, split: TorchvisionSplit) -> tuple[str, ...]:
    """Return the set's class names, or numbers where it has none; ImageNet's two cranes get their index."""
    found = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    names = found or range(int(split.targets.max(initial=-1)) + 1)
    words = [", ".join(name) if isinstance(name, tuple) else str(name) for name in names]
    return tuple(f"{word} ({index})" if words.count(word) > 1 else word for index, word in enumerate(words))
