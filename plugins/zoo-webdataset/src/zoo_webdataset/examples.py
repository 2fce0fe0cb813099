"""Options to try the data source with: tiny shards, made in a folder."""

import io
from pathlib import Path
from typing import Any

from PIL import Image
from webdataset import TarWriter


def data(folder: Path) -> list[dict[str, Any]]:
    """Return shards with class indices that are split, and some with class names in two splits."""
    for shard in range(3):
        with TarWriter(str(folder / f"{shard}.tar")) as tar:
            for place in range(8 * shard, 8 * shard + 8):
                image, name = _png(place), ("dark", "light")[place % 2]
                tar.write({"__key__": f"{place:04d}", "png": image, "cls": place % 2, "txt": name})
    named = {"train": [str(folder / "{0..1}.tar")], "val": str(folder / "2.tar"), "label": "txt"}
    return [{"train": str(folder / "*.tar")}, named]


def _png(place: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (10, 9), (place * 10, place * 5, 255 - place * 10)).save(file, "PNG")
    return file.getvalue()
