"""Data sets and models on disk, as their own libraries write them."""

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

CLASSES = ("dark", "light")


def pixels(place: int) -> np.ndarray:
    """Noise, dark or light by turns."""
    random = np.random.default_rng(place)
    return random.integers(0, 100, (12, 10, 3), dtype=np.uint8) + np.uint8(140 * (place % 2))


def png(place: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(place)).save(file, "PNG")
    return file.getvalue()


def table(first: int, count: int, **columns: Any) -> datasets.Dataset:
    """Rows from `first` on: an image and its class, and more `columns` of (feature, values)."""
    places = range(first, first + count)
    rows = {
        "image": [{"bytes": png(place), "path": f"{place}.png"} for place in places],
        "label": [place % 2 for place in places],
        **{name: values for name, (_, values) in columns.items()},
    }
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    features |= {name: feature for name, (feature, _) in columns.items()}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def write_parquet(folder: Path) -> dict[str, str]:
    """12 rows to train on and 4 to validate on; return the option `data_files`."""
    datasets.disable_progress_bars()
    files = {"train": str(folder / "train.parquet"), "validation": str(folder / "val.parquet")}
    table(0, 12).to_parquet(files["train"])
    table(12, 4).to_parquet(files["validation"])
    return files
