"""Reading one image: any mode, depth and orientation that Pillow opens becomes 8-bit upright RGB, or is refused."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 178_956_970
"""Largest image that is decoded: twice Pillow's own limit (about 13,377 × 13,377), where Pillow itself refuses."""

TOO_LARGE = f"it has more than the {MAX_PIXELS:,} pixels that are decoded"
UNKNOWN = "it is in no image format that Pillow reads"
WHITE = 255
SPOILT_EXIF = (SyntaxError, ValueError, LookupError, TypeError, OSError, EOFError, struct.error)
"""What Pillow raises on a spoilt EXIF block, which says nothing of the pixels: the image counts as upright."""


def open_image(source: Path | bytes | BinaryIO) -> Image.Image:
    """Return the decoded image as stored, any mode and size; of an animation the first frame.

    `source` is a path, the file's bytes, or a binary file, which stays open. OSError: no such file, or truncated.
    ValueError: corrupt, or more than `MAX_PIXELS` pixels, which is found before anything is decoded.
    """
    with refusing():
        # All bytes at once: Pillow keeps an animation's file open, and reads a TIFF's orientation after its pixels.
        data = source.read_bytes() if isinstance(source, Path) else source
        image = Image.open(BytesIO(data) if isinstance(data, bytes) else data)
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(TOO_LARGE)
        image.load()
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image as 8-bit RGB, turned upright as its EXIF orientation says, transparency over white.

    16-bit greys keep their upper byte, so black stays 0 and white becomes 255. An upright RGB image comes back itself.
    OSError, ValueError: its pixels cannot be decoded, or have no fixed range (mode F, and mode I beyond 16 bits).
    """
    with refusing():
        image = _upright(image)
        if image.mode == "I" or image.mode.startswith("I;16"):
            image = _grey_from_16_bits(image)
        if image.mode == "F":
            raise ValueError("mode F (floating point) has no fixed range: save the image with 8 or 16 bits")
        if image.has_transparency_data:
            return _over_white(image)
        return image if image.mode == "RGB" else image.convert("RGB")


@contextmanager
def refusing() -> Iterator[None]:
    """Let only OSError and ValueError out of decoding, and no warning.

    Decoders raise nearly anything on a corrupt file, and warn of what is judged here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Image.DecompressionBombError as error:
            raise ValueError(TOO_LARGE) from error
        except UnidentifiedImageError as error:  # its own text holds the address of a Python object
            raise ValueError(UNKNOWN) from error
        except (OSError, ValueError, MemoryError):
            raise
        except Exception as error:
            raise ValueError(f"cannot be decoded: {type(error).__name__}: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except SPOILT_EXIF:
        return image
    return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image


def _grey_from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError(f"mode I with values {values.min()} to {values.max()}: only 0 to 65535 has a known white")
    grey = (values >> 8).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = WHITE
    return Image.fromarray(grey)


def _over_white(image: Image.Image) -> Image.Image:
    straight = image.convert("LA") if image.mode == "La" else image
    layer = straight if straight.mode == "RGBA" else straight.convert("RGBA")
    paper = Image.new("RGBA", image.size, (WHITE, WHITE, WHITE, WHITE))
    return Image.alpha_composite(paper, layer).convert("RGB")
