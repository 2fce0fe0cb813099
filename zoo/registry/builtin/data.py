"""Built-in data sources."""

from pathlib import Path
from typing import Any

from pydantic import Field

from zoo.registry.parts import DataPart, NoOptions, Options


class SplitOptions(Options):
    """How one set of images is split when it comes without a validation split."""

    val_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of each class's images that validates (at least one), drawn by the run's seed."""


class ImageFolderOptions(SplitOptions):
    """A folder of class folders, or train/ and val/ with class folders in each."""

    root: Path
    """The folder. With `train/` and `val/` in it those are the splits; else its class folders are split."""


class IdxOptions(Options):
    """MNIST-format files, plain or .gz."""

    root: Path
    """The folder that holds the four files."""
    train_images: str = "train-images-idx3-ubyte"
    """File name; `.gz` is tried as well."""
    train_labels: str = "train-labels-idx1-ubyte"
    """File name; `.gz` is tried as well."""
    val_images: str = "t10k-images-idx3-ubyte"
    """File name; `.gz` is tried as well."""
    val_labels: str = "t10k-labels-idx1-ubyte"
    """File name; `.gz` is tried as well."""
    classes: list[str] = []
    """Class names in the order of the labels; "0", "1", … when left out."""


class TorchvisionDataOptions(SplitOptions):
    """One of torchvision's classification data sets."""

    name: str
    """The class's name in torchvision.datasets: "CIFAR10", "Flowers102"."""
    root: Path = Path("data")
    """Where it lies or is downloaded to."""
    download: bool = False
    """Whether to download it when it is not there."""
    train: dict[str, Any] | None = None
    """Arguments that select the training split, e.g. {split = "train"}; the class's own when left out."""
    val: dict[str, Any] | None = None
    """Arguments that select the validation split; the class's own when left out."""


PARTS = (
    DataPart(
        "imagefolder",
        build="zoo.data.imagefolder:build",
        examples="zoo.testing.examples:imagefolder",
        options=ImageFolderOptions,
        summary="a folder of class folders",
    ),
    DataPart(
        "digits",
        build="zoo.data.digits:build",
        options=NoOptions,
        summary="1,797 real handwritten digits (UCI), shipped inside",
    ),
    DataPart(
        "idx",
        build="zoo.data.idx:build",
        examples="zoo.testing.examples:idx",
        options=IdxOptions,
        summary="MNIST-format files, plain or .gz",
    ),
    DataPart(
        "torchvision",
        build="zoo.data.torchvision:build",
        examples="zoo.testing.examples:torchvision_data",
        options=TorchvisionDataOptions,
        summary="one of torchvision's data sets, by name",
    ),
)
