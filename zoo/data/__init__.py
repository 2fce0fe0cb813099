"""Data: sources of labelled images, and the one way from an image to a batch.

A source's `build(options, seed)` returns a `DataSource`; the rest is the engine: read (`open_image`, `to_rgb`),
preprocess (`Preprocess`), augment (`augmentation`, `Mix`), batch (`TrainBatches`, `ValBatches`).
"""

from zoo.data.augment import augmentation
from zoo.data.checks import check_classes, fingerprint
from zoo.data.dataset import BadImage, ImageDataset, Key, Sample
from zoo.data.images import MAX_PIXELS, open_image, to_rgb
from zoo.data.loader import Batch, Source
from zoo.data.loading import ALONE, TrainBatches, ValBatches
from zoo.data.mix import Mix
from zoo.data.preprocess import Preprocess
from zoo.data.share import Part, Share

__all__ = [
    "ALONE",
    "MAX_PIXELS",
    "BadImage",
    "Batch",
    "ImageDataset",
    "Key",
    "Mix",
    "Part",
    "Preprocess",
    "Sample",
    "Share",
    "Source",
    "TrainBatches",
    "ValBatches",
    "augmentation",
    "check_classes",
    "fingerprint",
    "open_image",
    "to_rgb",
]
