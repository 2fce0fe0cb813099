"""From a body to the image in it: the form's field, the header's format and size, and only then the pixels."""

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError
from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header

from zoo_serve.refusal import Refused
from zoo_serve.settings import Settings
from zoo_serve.uploads import FORM, Upload

if TYPE_CHECKING:
    from torch import Tensor
    from zoo import Predictor

FIELD = b"image"
MAX_FIELDS = 8
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
"""Pillow reads more, among them PostScript, for which it runs another program. MPO is what some phones call JPEG."""
READ = "AVIF, BMP, GIF, JPEG, PNG, TIFF and WebP are read"


def image_of(upload: Upload, predictor: "Predictor", settings: Settings) -> "Tensor":
    """Return the decoded image. Refused: 400, a form that cannot be read; 413, too many pixels; 415, 422, no image."""
    data = field_of(upload) if upload.is_form else upload.data
    check_header(data, settings.max_pixels)
    try:
        decoded: Tensor = predictor.decode(data)
    except (OSError, ValueError, TypeError, MemoryError) as error:
        raise Refused(422, f"the image cannot be decoded: {error}"[:300]) from error
    return decoded


def field_of(upload: Upload) -> bytes:
    """Return the form's field `image`. Refused: 400, it has none, several, or is no form; 422, it is empty."""
    found: list[bytes] = []
    seen = 0

    def collect(field: Field | File) -> None:
        nonlocal seen
        seen += 1
        if seen > MAX_FIELDS:
            raise FormParserError(f"more than {MAX_FIELDS} fields")
        if field.field_name == FIELD:
            found.append(_content(field))

    _, options = parse_options_header(upload.content_type)
    config = {"MAX_MEMORY_FILE_SIZE": len(upload.data) + 1}
    try:
        parser = FormParser(FORM, collect, collect, boundary=options.get(b"boundary"), config=config)
        parser.write(upload.data)
        parser.finalize()
    except (FormParserError, AssertionError, ValueError) as error:  # the parser asserts what a client decides
        raise Refused(400, f"the form cannot be read: {error}"[:300]) from error
    if len(found) != 1:
        raise Refused(
            400, f"the form has {len(found) or 'no'} fields 'image'", "send one: curl -F image=@photo.jpg URL"
        )
    if not found[0]:
        raise Refused(422, "the form's field 'image' is empty", "choose a file")
    return found[0]


def _content(field: Field | File) -> bytes:
    """Return what a part of the form holds, with a file name or without."""
    if isinstance(field, Field):
        return field.value or b""
    field.file_object.seek(0)
    return field.file_object.read()


def check_header(data: bytes, max_pixels: int) -> None:
    """Refuse an image by what it says of itself, before a pixel is decoded. Refused: 413, 415, 422."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of sizes that are judged here
            image = Image.open(BytesIO(data))
    except UnidentifiedImageError as error:
        raise Refused(415, "this is no image that can be read", READ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(max_pixels) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a corrupt header
        raise Refused(422, f"the image's header is spoilt: {type(error).__name__}: {error}"[:300]) from error
    if image.format not in FORMATS:
        raise Refused(415, f"images in the format {image.format} are not read", READ)
    if image.width * image.height > max_pixels:
        raise _too_large(max_pixels)


def _too_large(max_pixels: int) -> Refused:
    return Refused(413, f"the image has more than {max_pixels:,} pixels", "send a smaller image")
