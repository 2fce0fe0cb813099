"""What the plugin offers. Nothing heavy is imported until a part is built."""

from collections.abc import Iterable
from typing import Any

import zoo
from pydantic import Field, model_validator


class HfDataOptions(zoo.Options):
    """A data set that Hugging Face's `datasets` opens."""

    path: str
    """What `datasets.load_dataset` takes: "parquet", "arrow" or "imagefolder" with `data_files` or `data_dir`, a
    folder, or a name on the hub; or a folder that `save_to_disk` wrote."""
    name: str | None = None
    """The data set's configuration, where it has several."""
    revision: str | None = None
    """A branch, tag or commit on the hub. A commit makes the run repeatable."""
    data_files: str | list[str] | dict[str, str | list[str]] | None = None
    """Paths or patterns of files: one, several, or by split."""
    data_dir: str | None = None
    """The folder that "imagefolder" reads, or a folder inside a data set."""
    train: str = "train"
    """The split to train on."""
    val: str | None = None
    """The split to validate on. Left out: "validation", "valid", "val" or "dev", or a share of the training split."""
    image: str | None = None
    """The column of images; the only one of that type when left out."""
    label: str | None = None
    """The column of labels: class indices, text or whole numbers; the only ClassLabel column when left out."""
    val_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of each class's images that validates (at least one), drawn by the run's seed, where there is no split."""
    streaming: bool = False
    """Read the source once, in order, up to the limits, and keep what was read in zoo's cache."""
    train_limit: int | None = Field(None, ge=1)
    """How many images of the training split are streamed."""
    val_limit: int | None = Field(None, ge=1)
    """How many images of the validation split are streamed; `train_limit` when left out."""

    @model_validator(mode="after")
    def _limited(self) -> "HfDataOptions":
        if self.streaming and self.train_limit is None:
            raise ValueError("streaming needs train_limit: a run has a length")
        if not self.streaming and (self.train_limit or self.val_limit):
            raise ValueError("train_limit and val_limit are for streaming = true")
        return self


class TransformersOptions(zoo.Options):
    """An image classifier of `transformers`, built from its configuration."""

    arch: str
    """A model type ("vit", "resnet", "convnext", "swin", "dinov2"), a folder with config.json, or a name on the hub."""
    revision: str | None = None
    """A branch, tag or commit on the hub."""
    config: dict[str, Any] = {}
    """Changes to the configuration: {hidden_size = 192, num_attention_heads = 3}."""


class TransformersWeightsOptions(zoo.Options):
    """A checkpoint that `transformers` saved, under the names that it gives its files."""

    path: str
    """A folder with model.safetensors, or a name on the hub."""
    revision: str | None = None
    """A branch, tag or commit on the hub. A commit makes the run repeatable."""


DATA = zoo.DataPart(
    "hf",
    build="zoo_hf.data:build",
    options=HfDataOptions,
    summary="a data set of Hugging Face's datasets: saved, Parquet, image folders, the hub",
    examples="zoo_hf.examples:data",
)
BACKBONE = zoo.BackbonePart(
    "transformers",
    build="zoo_hf.backbone:build",
    options=TransformersOptions,
    summary="an image classifier of transformers, by model type, folder or hub name",
    variants="zoo_hf.backbone:architectures",
    examples="zoo_hf.examples:backbones",
)
WEIGHTS = zoo.WeightsPart(
    "transformers",
    build="zoo_hf.weights:build",
    options=TransformersWeightsOptions,
    summary="a checkpoint that transformers saved, in a folder or on the hub",
    examples="zoo_hf.examples:weights",
)


@zoo.hookimpl
def zoo_data_sources() -> Iterable[zoo.DataPart]:
    """Offer data sets."""
    return (DATA,)


@zoo.hookimpl
def zoo_backbones() -> Iterable[zoo.BackbonePart]:
    """Offer image classifiers."""
    return (BACKBONE,)


@zoo.hookimpl
def zoo_weights_sources() -> Iterable[zoo.WeightsPart]:
    """Offer their checkpoints."""
    return (WEIGHTS,)
