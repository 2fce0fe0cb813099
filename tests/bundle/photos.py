"""Photos that are made, in three classes: with colours, stripes and edges, so that a skew has something to change."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

CLASSES = ("leaf", "sky", "stone")


def photo(kind: str, seed: int, width: int = 96, height: int = 72) -> Image.Image:
    """Return an RGB photo of a class, the same for the same seed."""
    random = np.random.default_rng(seed)
    down, across = np.mgrid[0:height, 0:width]
    noise = random.normal(0, 12, (height, width, 3))
    if kind == "leaf":
        stripes = 60 * np.sin(across * random.uniform(1.5, 2.5) + down * random.uniform(-0.5, 0.5))
        base = np.array([60, 150, 40]) + stripes[..., None] * np.array([0.3, 1, 0.2])
    elif kind == "sky":
        base = np.array([90, 140, 230]) + (down[..., None] / height - 0.5) * np.array([160, 90, -40])
    else:
        spots = 70 * (np.sin(across / random.uniform(2, 5)) * np.sin(down / random.uniform(2, 5)))
        base = np.array([140, 120, 100]) + spots[..., None]
    return Image.fromarray((base + noise + random.uniform(-25, 25)).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "JPEG", **keys: object) -> bytes:
    """Return an image as a file's bytes."""
    file = BytesIO()
    image.save(file, form, **keys)
    return file.getvalue()


def turned(image: Image.Image) -> bytes:
    """Return an image as a telephone stores it: on its side, with an EXIF orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), quality=92, exif=exif)


def faded(image: Image.Image) -> Image.Image:
    """Return an image that is clearer to the right."""
    layered = image.copy()
    ramp = np.broadcast_to(np.linspace(255, 20, image.width).astype(np.uint8), (image.height, image.width))
    layered.putalpha(Image.fromarray(np.ascontiguousarray(ramp)))
    return layered


def in_16_bits(image: Image.Image) -> Image.Image:
    """Return an image in greys of 16 bits, whose lower byte says something else."""
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256 + 77)


def with_a_clear_grey(image: Image.Image) -> bytes:
    deep = in_16_bits(image)
    return encoded(deep, "PNG", transparency=int(np.median(np.asarray(deep))))


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda image: encoded(image, quality=92),
    "png": lambda image: encoded(image, "PNG"),
    "grey": lambda image: encoded(image.convert("L"), "PNG"),
    "grey jpeg": lambda image: encoded(image.convert("L"), quality=92),
    "rgba": lambda image: encoded(faded(image), "PNG"),
    "16 bits": lambda image: encoded(in_16_bits(image), "PNG"),
    "16 bits with a clear grey": with_a_clear_grey,
    "grey and alpha": lambda image: encoded(faded(image).convert("LA"), "PNG"),
    "turned": turned,
    "turned png": lambda image: encoded(Image.open(BytesIO(turned(image))), "PNG", exif=exif_of(turned(image))),
    "palette": lambda image: encoded(image.quantize(16), "PNG", transparency=1),
    "bits": lambda image: encoded(image.convert("1"), "PNG"),
    "cmyk": lambda image: encoded(image.convert("CMYK"), quality=92),
    "webp": lambda image: encoded(image, "WEBP", quality=90),
    "gif": lambda image: encoded(image, "GIF"),
    "tiff": lambda image: encoded(image, "TIFF"),
}
"""Every encoding that validation images come in."""


def exif_of(data: bytes) -> bytes:
    return Image.open(BytesIO(data)).info["exif"]  # type: ignore[no-any-return]


def write_photos(root: Path, train: int = 12, val: int = 5) -> Path:
    """Write train/ and val/ with so many JPEGs a class, and return the folder."""
    for part, count, first in (("train", train, 0), ("val", val, 1000)):
        for place, kind in enumerate(CLASSES):
            folder = root / part / kind
            folder.mkdir(parents=True)
            for index in range(count):
                image = photo(kind, first + 100 * place + index)
                (folder / f"{index:02d}.jpg").write_bytes(encoded(image, quality=92))
    return root


class Photos:
    """A split of files in memory."""

    def __init__(self, files: Sequence[bytes], targets: Sequence[int] | None = None) -> None:
        self.files = list(files)
        self.targets = list(targets or [index % len(CLASSES) for index in range(len(files))])

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> Image.Image:
        from zoo.data import open_image

        return open_image(self.files[index])

    def target(self, index: int) -> int:
        return self.targets[index]

    def identity(self, index: int) -> str:
        return f"photo {index}"


def photos(count: int, *kinds: str, width: int = 96, height: int = 72) -> Photos:
    """Return a split of so many photos, in these encodings by turns."""
    chosen = kinds or ("jpeg",)
    made = [photo(CLASSES[index % len(CLASSES)], index, width, height) for index in range(count)]
    return Photos([KINDS[chosen[index % len(chosen)]](image) for index, image in enumerate(made)])
