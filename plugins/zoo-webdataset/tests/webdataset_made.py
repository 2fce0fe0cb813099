"""Shards on disk, as webdataset writes them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from webdataset import TarWriter


def pixels(place: int) -> np.ndarray:
    """Noise, bright above or below by turns."""
    values = np.random.default_rng(place).integers(0, 100, (16, 14, 3), dtype=np.uint8)
    values[8 * (place % 2) : 8 * (place % 2) + 8] += 120
    return values


def png(place: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(place)).save(file, "PNG")
    return file.getvalue()


def sample(place: int, **files: Any) -> dict[str, Any]:
    """A sample's image, class index and class name, and more `files` by extension; None leaves one out."""
    found = {
        "__key__": f"{place:04d}",
        "png": png(place),
        "cls": place % 2,
        "txt": ("above", "below")[place % 2],
        **files,
    }
    return {name: content for name, content in found.items() if content is not None}


def write_shard(path: Path, samples: list[dict[str, Any]]) -> str:
    with TarWriter(str(path)) as tar:
        for one in samples:
            tar.write(one)
    return str(path)


def write_shards(folder: Path, count: int, each: int) -> str:
    """So many shards of so many samples, the last one to validate on; return the pattern of the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(count + 1):
        name = "val" if shard == count else f"{shard:03d}"
        write_shard(folder / f"{name}.tar", [sample(place) for place in range(shard * each, (shard + 1) * each)])
    return str(folder / f"{{000..{count - 1:03d}}}.tar")
