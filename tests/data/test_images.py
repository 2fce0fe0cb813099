import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import ExifTags, Image

from zoo.data.images import open_image, to_rgb

PHOTOS = Path(skimage.__file__).parent / "data"
RED, WHITE = (255, 0, 0), (255, 255, 255)


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def saved(path: Path, image: Image.Image, **how: Any) -> Image.Image:
    image.save(path, **how)
    return to_rgb(open_image(path))


def colours(image: Image.Image) -> list[tuple[int, ...]]:
    if image.mode != "RGB":
        raise ValueError(image.mode)
    return [tuple(pixel) for row in np.asarray(image).tolist() for pixel in row]


def test_rgb_comes_back_itself() -> None:
    image = Image.new("RGB", (2, 2), RED)
    assert to_rgb(image) is image


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_photo_from_a_path_from_bytes_and_from_a_file(as_bytes: bool) -> None:
    path = PHOTOS / "rocket.jpg"
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    if as_bytes:
        found = open_image(path.read_bytes())
    else:
        with path.open("rb") as file:
            found = open_image(file)
            assert not file.closed
    assert (np.asarray(to_rgb(found)) == expected).all()
    assert (np.asarray(to_rgb(open_image(path))) == expected).all()


def test_one_bit(tmp_path: Path) -> None:
    assert colours(saved(tmp_path / "a.png", Image.fromarray(np.array([[True, False]])))) == [WHITE, (0, 0, 0)]


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert colours(saved(tmp_path / "a.png", image)) == [RED, (0, 0, 255)]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert colours(saved(tmp_path / "a.png", image, transparency=transparency)) == [RED, WHITE]


def test_alpha_lies_over_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 128)]], np.uint8))
    assert colours(saved(tmp_path / "a.png", image)) == [RED, WHITE, (127, 127, 127)]


def test_grey_with_alpha(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1), (10, 255))
    image.putpixel((1, 0), (10, 0))
    assert colours(saved(tmp_path / "a.png", image)) == [(10, 10, 10), WHITE]


def test_palette_alpha_and_premultiplied_modes() -> None:
    image = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    assert colours(to_rgb(image.convert("PA"))) == [WHITE]
    assert colours(to_rgb(image.convert("RGBa"))) == [WHITE]
    assert colours(to_rgb(image.convert("LA").convert("La"))) == [WHITE]


def test_transparent_grey_and_colour_without_an_alpha_channel(tmp_path: Path) -> None:
    grey = Image.fromarray(np.array([[0, 10]], np.uint8))
    assert colours(saved(tmp_path / "a.png", grey, transparency=0)) == [WHITE, (10, 10, 10)]
    colour = Image.new("RGB", (1, 1), RED)
    assert colours(saved(tmp_path / "b.png", colour, transparency=RED)) == [WHITE]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N"])
def test_16_bits_of_any_byte_order(mode: str) -> None:
    order = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2"}[mode]
    values = np.array([[0, 257, 0x8000, 0xFFFF]], order)
    image = Image.frombytes(mode, (4, 1), values.tobytes())
    assert [pixel[0] for pixel in colours(to_rgb(image))] == [0, 1, 128, 255]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_files(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], np.uint16))
    assert [pixel[0] for pixel in colours(saved(tmp_path / f"a.{suffix}", image))] == [0, 128, 255]


def test_16_bit_grey_with_a_transparent_value(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" + struct.pack(">HH", 5, 0x1000))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", struct.pack(">H", 5))
    png += chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    assert [pixel[0] for pixel in colours(to_rgb(open_image(png)))] == [255, 0x10]


def test_integers_of_no_known_range_are_refused() -> None:
    image = Image.fromarray(np.array([[-1, 70000]], np.int32))
    with pytest.raises(ValueError, match=r"^mode I with values -1 to 70000: only 0 to 65535 has a known white$"):
        to_rgb(image)


def test_floats_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"^mode F \(floating point\) has no fixed range"):
        to_rgb(open_image(tmp_path / "a.tif"))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colour_spaces(tmp_path: Path, mode: str) -> None:
    white = {"CMYK": (0, 0, 0, 0), "YCbCr": (255, 128, 128), "LAB": (255, 128, 128)}[mode]
    found = saved(tmp_path / "a.tif", Image.new(mode, (1, 1), white))
    assert np.abs(np.array(colours(found)) - WHITE).max() <= 1


def test_cmyk_jpeg(tmp_path: Path) -> None:
    found = colours(saved(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0))))
    assert np.abs(np.array(found) - RED).max() <= 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (2, (1, 0)), (3, (1, 1)), (6, (1, 0)), (8, (0, 1))])
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int, corner: tuple[int, int]) -> None:
    image = Image.new("RGB", (48, 32), WHITE)
    image.paste(RED, (0, 0, 24, 16))  # Red lies top left as stored.
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    found = saved(tmp_path / f"a.{suffix}", image, exif=exif)
    assert found.size == ((32, 48) if orientation in (6, 8) else (48, 32))
    x, y = ((found.width - 5) * corner[0] + 2, (found.height - 5) * corner[1] + 2)
    assert np.abs(np.array(found.getpixel((x, y))) - RED).max() < 40
    again = to_rgb(found)
    assert (np.asarray(again) == np.asarray(found)).all()


def test_a_spoilt_exif_block_leaves_the_image_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 8), RED)
    found = saved(tmp_path / "a.jpg", image, exif=b"Exif\0\0no such thing")
    assert found.size == (16, 8)


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif", "png"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, WHITE)]
    found = saved(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    assert colours(found)[0] == RED


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        open_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match="it is in no image format that Pillow reads"):
        open_image(b"")
    with pytest.raises(ValueError, match="it is in no image format that Pillow reads"):
        open_image(b"GIF89a")


@pytest.mark.parametrize("name", ["rocket.jpg", "coffee.png", "multipage.tif", "no_time_for_that_tiny.gif"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_truncated_files_are_refused_or_read_and_never_warn(name: str, share: float) -> None:
    data = (PHOTOS / name).read_bytes()
    try:
        to_rgb(open_image(data[: int(len(data) * share)]))
    except (OSError, ValueError):
        return
    assert name.endswith(("gif", "tif")), "a cut JPEG or PNG must be refused"


@pytest.mark.parametrize("name", ["rocket.jpg", "color.png", "multipage_rgb.tif", "no_time_for_that_tiny.gif"])
def test_spoilt_bytes_raise_nothing_else(name: str) -> None:
    data = (PHOTOS / name).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(30):
        spoilt = bytearray(data)
        for place in random.integers(0, min(len(data), 2000), 5):
            spoilt[place] = random.integers(256)
        with suppress(OSError, ValueError):
            assert to_rgb(open_image(bytes(spoilt))).mode == "RGB"


@pytest.mark.parametrize("side", [13_378, 60_000])
def test_a_decompression_bomb_is_refused_before_decoding(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match=r"^it has more than the 178,956,970 pixels that are decoded$"):
        open_image(png)


def test_a_large_image_below_the_limit_does_not_warn(tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000), 1).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").size == (10_000, 10_000)


def test_the_limit_holds_where_pillows_is_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.new("1", (13_378, 13_378)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ValueError, match=r"^it has more than the 178,956,970 pixels that are decoded$"):
        open_image(tmp_path / "a.png")
