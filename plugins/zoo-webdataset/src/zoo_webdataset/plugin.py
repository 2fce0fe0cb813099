"""What the plugin offers. Nothing heavy is imported until the data source is built."""

from collections.abc import Iterable

import zoo
from pydantic import Field, field_validator, model_validator

EXTENSIONS = ["jpg", "jpeg", "png", "webp", "avif", "bmp", "gif", "ppm", "pgm", "tif", "tiff", "jp2"]


class WebDatasetOptions(zoo.Options):
    """Tar shards whose files belong together by name: `0001.jpg` and `0001.cls` are a sample with the key `0001`."""

    train: str | list[str]
    """Shards to train on: paths with `{000..009}` and `*`, one or several. On this machine, not compressed."""
    val: str | list[str] | None = None
    """Shards to validate on; a share of the training images when left out."""
    image: list[str] = EXTENSIONS
    """Extensions of the image, lower case: what stands after the first dot of a file's name."""
    label: str = "cls"
    """Extension of the label: "cls" holds a class index, "json" an object, any other ("txt") a class name."""
    field: str = "label"
    """With `label` ending in "json": the object's member that is the label, a class index or a class name."""
    classes: list[str] = []
    """Class names in the order of the indices. Left out: the names found, sorted; of indices "0", "1", …"""
    val_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of each class's images that validates (at least one), drawn by the run's seed, where `val` is left out."""

    @field_validator("image")
    @classmethod
    def _plain(cls, image: list[str]) -> list[str]:
        odd = [extension for extension in image if extension.startswith(".") or extension != extension.lower()]
        if odd or not image:
            raise ValueError("extensions are lower case and without the dot before them, and there is at least one")
        return image

    @model_validator(mode="after")
    def _apart(self) -> "WebDatasetOptions":
        if self.label in self.image:
            raise ValueError(f"the extension {self.label!r} cannot be both the image's and the label's")
        return self


DATA = zoo.DataPart(
    "webdataset",
    build="zoo_webdataset.source:build",
    options=WebDatasetOptions,
    summary="WebDataset tar shards, read in zoo's own order",
    examples="zoo_webdataset.examples:data",
)


@zoo.hookimpl
def zoo_data_sources() -> Iterable[zoo.DataPart]:
    """Offer the data source."""
    return (DATA,)
