"""Golden images: a few validation images as files, and what the model says of them from their bytes on.

Beside the images as they are, one mosaic of them comes in the encodings that deployments get wrong: on its side by
EXIF, grey in 8 and 16 bits, transparent, with a palette, CMYK, larger than the network's input, wider or taller.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from zoo.data import Preprocess, open_image, to_rgb
from zoo.data.images import SPOILT_EXIF
from zoo.errors import ZooError
from zoo.registry.contracts import InputSpec, Split

FOLDER = "golden"
FILE = "expected.json"
PHOTOS = 8
"""Validation images that a bundle carries."""
PHOTO = "a validation image"
"""What those are in words."""
UPRIGHT = 1
"""The EXIF orientation of an image that is stored as it is seen."""
TILES = (2, 3)
"""Rows and columns of the mosaic."""


@dataclass(frozen=True)
class GoldenImage:
    """An image's file name, its bytes, what it is in words, and the class that it shows where that is known."""

    file: str
    data: bytes
    what: str
    label: str | None = None


@dataclass(frozen=True)
class Golden:
    """Images, class names in the order of the logits, and for each artefact's main file its logits (N, K).

    Under "model" are those of the model itself, before any export.
    """

    images: tuple[GoldenImage, ...]
    classes: tuple[str, ...]
    logits: Mapping[str, Sequence[Sequence[float]]]

    def write(self, folder: Path) -> None:
        """Write the images and expected.json below `folder`."""
        below = folder / FOLDER
        below.mkdir()
        for image in self.images:
            (below / image.file).write_bytes(image.data)
        table = {"classes": self.classes, "images": [_entry(image) for image in self.images], "logits": self.logits}
        (below / FILE).write_text(_one_line_a_row(table), encoding="utf-8")


def read_golden(folder: Path) -> Golden:
    """Return a bundle's golden images. ZooError: they are missing or damaged."""
    below = folder / FOLDER
    try:
        table = json.loads((below / FILE).read_text(encoding="utf-8"))
        images = tuple(_read(below, entry) for entry in table["images"])
        classes = tuple(table["classes"])
        return Golden(images, classes, _checked(table["logits"], len(images), len(classes)))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        what = f"the golden images cannot be read: {error}"
        raise ZooError(what, where=str(below), hint="export the run again") from error


def golden_files(folder: Path) -> set[str]:
    """Return what a bundle has below golden/, as names from the bundle on. ZooError: see `read_golden`."""
    return {f"{FOLDER}/{FILE}", *(f"{FOLDER}/{image.file}" for image in read_golden(folder).images)}


def _checked(logits: Mapping[str, Any], images: int, classes: int) -> Mapping[str, Any]:
    """Return them. ValueError: they are not finite numbers, one row an image and one column a class."""
    for name, rows in logits.items():
        table = np.asarray(rows, dtype=np.float64)
        if table.shape != (images, classes) or not np.isfinite(table).all():
            raise ValueError(f"the logits of {name} are not {images} × {classes} numbers")
    return logits


def _read(folder: Path, entry: Mapping[str, Any]) -> GoldenImage:
    name = Path(entry["file"]).name  # never outside the folder
    data = (folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ValueError(f"{name} has other bytes than when the bundle was made")
    return GoldenImage(name, data, entry["what"], entry["label"])


def _entry(image: GoldenImage) -> dict[str, Any]:
    table = {key: value for key, value in asdict(image).items() if key != "data"}
    return {**table, "sha256": hashlib.sha256(image.data).hexdigest()}


def _one_line_a_row(table: Mapping[str, Any]) -> str:
    """Return JSON with one image and one row of logits a line."""
    rows = {name: [json.dumps(row) for row in logits] for name, logits in table["logits"].items()}
    blocks = [f'  "{name}": [\n   ' + ",\n   ".join(listed) + "\n  ]" for name, listed in rows.items()]
    images = ",\n  ".join(json.dumps(image, ensure_ascii=False) for image in table["images"])
    classes = json.dumps(list(table["classes"]), ensure_ascii=False)
    logits = ",\n".join(blocks)
    return f'{{\n "classes": {classes},\n "images": [\n  {images}\n ],\n "logits": {{\n{logits}\n }}\n}}\n'


def make_golden(split: Split, classes: Sequence[str], spec: InputSpec, photos: int = PHOTOS) -> tuple[GoldenImage, ...]:
    """Return validation images spread over the split, and the mosaic's variants. ZooError: none can be decoded.

    `classes` names the classes of the split's targets.
    """
    chosen = list(_photos(split, Preprocess(spec), photos))
    if not chosen:
        raise ZooError("not one validation image can be decoded, so nothing can be verified", where="[data]")
    named = [
        GoldenImage(f"{place:02d}{_suffix(image)}", _encode(image), PHOTO, classes[split.target(index)])
        for place, (index, image) in enumerate(chosen)
    ]
    side = int(min(spec.size) / spec.crop_pct)
    return (*named, *_variants([image for _, image in chosen], side))


def _photos(split: Split, preprocess: Preprocess, count: int) -> Iterator[tuple[int, Image.Image]]:
    """Yield (index, image) spread evenly; for one that cannot be decoded or resized the next that can."""
    taken: set[int] = set()
    for place in range(min(count, len(split))):
        for index in range(place * len(split) // count if count < len(split) else place, len(split)):
            if index in taken:
                continue
            try:
                image = split.image(index)
                preprocess.shape(image)
            except (OSError, ValueError):
                continue
            taken.add(index)
            yield index, image
            break


def _suffix(image: Image.Image) -> str:
    return ".jpg" if image.format == "JPEG" else ".png"


def _encode(image: Image.Image) -> bytes:
    """Return a photo as JPEG, anything else as PNG in its own mode or, where PNG has none, in RGB.

    Of what else a file says only the orientation is kept: a bundle is given away, and a place or a name is not.
    """
    if image.format == "JPEG":
        return _saved(image, "JPEG", quality=95, comment="", **_turn(orientation(image)))
    if image.mode in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"):
        return _saved(image, "PNG", icc_profile=None, **_turn(orientation(image)))
    return _saved(to_rgb(image), "PNG", icc_profile=None)  # upright by now


def orientation(image: Image.Image) -> int:
    """Return an image's EXIF orientation, 1 to 8; 1 where it has none."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except SPOILT_EXIF:
        return UPRIGHT
    return int(found) if found in range(1, 9) else UPRIGHT


def _turn(orientation: int) -> dict[str, Image.Exif]:
    if orientation == UPRIGHT:
        return {}
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return {"exif": exif}


def _saved(image: Image.Image, form: str, **keys: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **keys)
    return file.getvalue()


def _variants(photos: Sequence[Image.Image], side: int) -> Iterator[GoldenImage]:
    """Yield the mosaic as files; `side` is what the network's preprocessing resizes the shorter side to."""
    large, small = _mosaic(photos, side), _mosaic(photos, max(1, side // 2))
    stored = large.transpose(Image.Transpose.ROTATE_90)
    grey = small.convert("L")
    yield GoldenImage("wide.jpg", _saved(large, "JPEG", quality=90), "larger and wider than the network's input")
    yield GoldenImage("tall.png", _saved(small.rotate(90, expand=True), "PNG"), "taller than wide")
    sideways = _saved(stored, "JPEG", quality=90, **_turn(6))  # 90° clockwise, to see it upright
    yield GoldenImage("sideways.jpg", sideways, "stored on its side, EXIF orientation 6")
    yield GoldenImage("grey.png", _saved(grey, "PNG"), "grey, 8 bits")
    yield GoldenImage("grey16.png", _saved(_in_16_bits(grey), "PNG"), "grey, 16 bits")
    yield GoldenImage("transparent.png", _saved(_transparent(small), "PNG"), "with transparency")
    yield GoldenImage(
        "palette.png", _saved(_with_palette(small), "PNG", transparency=0), "a palette with one clear colour"
    )
    yield GoldenImage("cmyk.jpg", _saved(small.convert("CMYK"), "JPEG", quality=90), "CMYK")


def _mosaic(photos: Sequence[Image.Image], side: int) -> Image.Image:
    """Return photos in a grid, each `side` pixels plus its row's and column's number, so that no side is even twice."""
    rows, columns = TILES
    canvas = Image.new("RGB", (columns * side + 3, rows * side + 1), (90, 120, 150))
    for place in range(rows * columns):
        tile = to_rgb(photos[place % len(photos)]).resize((side, side), Image.Resampling.NEAREST)
        canvas.paste(tile, (place % columns * side, place // columns * side))
    return canvas


def _in_16_bits(grey: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)


def _transparent(image: Image.Image) -> Image.Image:
    """Return the image, clearer from left to right, over colours that nobody is meant to see."""
    fading = np.broadcast_to(np.linspace(255, 0, image.width).astype(np.uint8), (image.height, image.width))
    layered = image.copy()
    layered.putalpha(Image.fromarray(np.ascontiguousarray(fading)))
    return layered


def _with_palette(image: Image.Image) -> Image.Image:
    return image.quantize(32, dither=Image.Dither.NONE)


def decoded(image: GoldenImage) -> Image.Image:
    """Return a golden image as zoo decodes it. OSError, ValueError: see `open_image`."""
    return open_image(image.data)
