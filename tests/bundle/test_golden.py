"""Golden images: which are chosen, what becomes of their bytes, and what is read back."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from tests.bundle.made import refusal
from tests.bundle.photos import CLASSES, KINDS, Photos, encoded, exif_of, photo, photos, turned
from zoo.bundle.golden import PHOTO, Golden, GoldenImage, decoded, make_golden, orientation, read_golden
from zoo.data import to_rgb
from zoo.errors import ZooError
from zoo.registry.contracts import InputSpec

SPEC = InputSpec((32, 32))  # covers 36 px
VARIANTS = (
    "wide.jpg",
    "tall.png",
    "sideways.jpg",
    "grey.png",
    "grey16.png",
    "transparent.png",
    "palette.png",
    "cmyk.jpg",
)


def tiny(shade: int) -> bytes:
    return encoded(Image.new("RGB", (4, 4), (shade, shade, shade)), "PNG")


def shades(images: Any) -> list[int]:
    return [decoded(image).getpixel((0, 0))[0] for image in images if image.what == PHOTO]


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(1, [0]), (3, [0, 1, 2]), (8, list(range(8))), (9, [0, 1, 2, 3, 4, 5, 6, 7]), (16, [0, 2, 4, 6, 8, 10, 12, 14])],
)
def test_photos_are_spread_over_the_split(count: int, chosen: list[int]) -> None:
    images = make_golden(Photos([tiny(index) for index in range(count)]), CLASSES, SPEC)
    assert shades(images) == chosen
    assert [image.file for image in images] == [*(f"{place:02d}.png" for place in range(len(chosen))), *VARIANTS]
    assert [image.label for image in images[: len(chosen)]] == [CLASSES[index % 3] for index in chosen]
    assert {image.label for image in images[len(chosen) :]} == {None}


def test_bad_images_are_passed_over_for_the_next() -> None:
    thin = encoded(Image.new("L", (1, 60000), 9), "PNG")  # resized it would have more pixels than are decoded
    files = [b"no image", tiny(1), encoded(photo("sky", 0))[:300], thin, tiny(4), tiny(5)]
    images = make_golden(Photos(files), CLASSES, InputSpec((224, 224)), photos=3)
    assert shades(images) == [1, 4, 5]
    assert [image.label for image in images[:3]] == [CLASSES[1], CLASSES[1], CLASSES[2]]


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 10))
@settings(deadline=None, max_examples=60)
def test_no_photo_twice_and_as_many_as_are_asked_for_where_all_are_good(good: list[bool], count: int) -> None:
    split = Photos([tiny(index) if fine else b"no image" for index, fine in enumerate(good)])
    try:
        found = shades(make_golden(split, CLASSES, SPEC, count))
    except ZooError:
        assert not good[0]  # what lies behind an image's own place may be taken for it, and nothing before
        return
    assert 1 <= len(set(found)) == len(found) <= count
    assert all(good[index] for index in found)
    if all(good):
        assert len(found) == min(count, len(good))


def test_not_one_image() -> None:
    assert refusal(lambda: make_golden(Photos([b"no image"]), CLASSES, SPEC)) == (
        "not one validation image can be decoded, so nothing can be verified\n  where: [data]"
    )


def test_the_same_split_gives_the_same_bytes() -> None:
    split = photos(5, *KINDS)
    assert make_golden(split, CLASSES, SPEC) == make_golden(split, CLASSES, SPEC)


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_keeps_its_pixels_and_its_kind(kind: str) -> None:
    split = photos(1, kind)
    image = make_golden(split, CLASSES, SPEC)[0]
    stored, kept = split.image(0), decoded(image)
    lossy = stored.format == "JPEG"
    assert image.file == ("00.jpg" if lossy else "00.png")
    assert (to_rgb(kept).size, orientation(kept)) == (to_rgb(stored).size, orientation(stored))
    assert kept.has_transparency_data == stored.has_transparency_data
    if kind != "cmyk":
        assert kept.mode == stored.mode
    apart = np.abs(np.asarray(to_rgb(kept)).astype(int) - np.asarray(to_rgb(stored)))
    assert apart.max() <= (40 if lossy else 0)


def test_of_exif_only_the_orientation_is_given_away() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 6, "Somebody"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    files = [
        encoded(photo("sky", 0), form, exif=exif, **keys)
        for form, keys in (("JPEG", {"comment": b"Somebody"}), ("PNG", {}))
    ]
    assert all(b"Somebody" in data for data in files)
    for image in make_golden(Photos(files), CLASSES, SPEC)[:2]:
        assert dict(decoded(image).getexif()) == {ExifTags.Base.Orientation: 6}
        assert b"Somebody" not in image.data


def test_an_upright_photo_gets_no_exif() -> None:
    assert "exif" not in decoded(make_golden(photos(1), CLASSES, SPEC)[0]).info
    assert exif_of(turned(photo("sky", 0)))


def test_a_spoilt_exif_block_counts_as_upright() -> None:
    data = encoded(photo("sky", 0), exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert orientation(decoded(GoldenImage("00.jpg", data, PHOTO))) == 1
    assert "exif" not in decoded(make_golden(Photos([data]), CLASSES, SPEC)[0]).info


@pytest.fixture(scope="module")
def variants() -> dict[str, GoldenImage]:
    return {image.file: image for image in make_golden(photos(2), CLASSES, SPEC)[2:]}


@pytest.mark.parametrize(
    ("file", "mode", "size", "turn", "what"),
    [
        ("wide.jpg", "RGB", (111, 73), 1, "larger and wider than the network's input"),
        ("tall.png", "RGB", (37, 57), 1, "taller than wide"),
        ("sideways.jpg", "RGB", (73, 111), 6, "stored on its side, EXIF orientation 6"),
        ("grey.png", "L", (57, 37), 1, "grey, 8 bits"),
        ("grey16.png", "I;16", (57, 37), 1, "grey, 16 bits"),
        ("transparent.png", "RGBA", (57, 37), 1, "with transparency"),
        ("palette.png", "P", (57, 37), 1, "a palette with one clear colour"),
        ("cmyk.jpg", "CMYK", (57, 37), 1, "CMYK"),
    ],
)
def test_every_variant_is_what_it_says(variants: Any, file: str, mode: str, size: Any, turn: int, what: str) -> None:
    image = decoded(variants[file])
    assert (image.mode, image.size, orientation(image), variants[file].what) == (mode, size, turn, what)
    assert image.has_transparency_data == (file in ("transparent.png", "palette.png"))


def test_variants_show_what_people_see(variants: Any) -> None:
    seen = {file: np.asarray(to_rgb(decoded(image))).astype(int) for file, image in variants.items()}
    assert np.abs(seen["sideways.jpg"] - seen["wide.jpg"]).mean() < 6
    assert np.array_equal(seen["grey.png"], seen["grey16.png"])
    assert (seen["transparent.png"][:, -1] == 255).all()
    assert (np.asarray(decoded(variants["palette.png"])) == 0).any()  # its clear colour is used


def test_one_photo_fills_the_mosaic_of_a_tiny_network() -> None:
    images = make_golden(photos(1, width=1, height=1), CLASSES, InputSpec((1, 1), crop_pct=1.0))
    assert [decoded(image).size for image in images[1:3]] == [(6, 3), (3, 6)]


GOLDEN = Golden(
    (GoldenImage("00.png", tiny(7), PHOTO, "Äpfel"), GoldenImage("grey.png", tiny(8), "grey, 8 bits")),
    ("Äpfel", 'a "b"'),
    {"model": [[1.5, -2.25], [0.1, 1e-8]], "model.x": [[0.0, 1.0], [2.0, 3.0]]},
)


def test_what_is_written_is_read_back_with_one_line_an_image(tmp_path: Path) -> None:
    GOLDEN.write(tmp_path)
    assert read_golden(tmp_path) == GOLDEN
    text = (tmp_path / "golden/expected.json").read_text(encoding="utf-8")
    assert text.splitlines()[:2] == ["{", ' "classes": ["Äpfel", "a \\"b\\""],']
    assert text.splitlines()[-5:] == ["   [0.0, 1.0],", "   [2.0, 3.0]", "  ]", " }", "}"]


def spoilt(tmp_path: Path, change: Any) -> str:
    GOLDEN.write(tmp_path)
    change(tmp_path / "golden")
    lines = refusal(lambda: read_golden(tmp_path)).splitlines()
    assert lines[1:] == [f"  where: {tmp_path / 'golden'}", "  mend:  export the run again"]
    return lines[0].removeprefix("the golden images cannot be read: ")


def edited(**changes: Any) -> Any:
    def edit(folder: Path) -> None:
        table = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        (folder / "expected.json").write_text(json.dumps({**table, **changes}), encoding="utf-8")

    return edit


JSON = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
ROWS = "the logits of model are not 2 × 2 numbers"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "00.png").write_bytes(b"x"), "00.png has other bytes than when the bundle was made"),
        (lambda folder: (folder / "expected.json").write_text("{"), JSON),
        (edited(images=[{"file": "00.png"}]), "'sha256'"),
        (edited(images=3), "'int' object is not iterable"),
        (edited(logits={"model": [[1.0, 2.0]]}), ROWS),
        (edited(logits={"model": [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]}), ROWS),
        (edited(logits={"model": [[1.0, float("nan")], [1.0, 2.0]]}), ROWS),
        (edited(logits={"model": [[1.0, "x"], [1.0, 2.0]]}), "could not convert string to float: 'x'"),
    ],
)  # fmt: skip
def test_damaged_golden_images(tmp_path: Path, change: Any, message: str) -> None:
    assert spoilt(tmp_path, change) == message


def test_a_missing_image_and_a_missing_folder(tmp_path: Path) -> None:
    said = spoilt(tmp_path, lambda folder: (folder / "grey.png").unlink())
    assert said == f"[Errno 2] No such file or directory: '{tmp_path}/golden/grey.png'"
    with pytest.raises(FileExistsError):
        GOLDEN.write(tmp_path)
    assert refusal(lambda: read_golden(tmp_path / "no")).startswith("the golden images cannot be read: [Errno 2] ")


@pytest.mark.parametrize("name", ["../outside.png", "/etc/passwd", "golden/../../outside.png"])
def test_no_image_is_read_from_outside_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.png").write_bytes(tiny(7))
    inside = tmp_path / "bundle"
    inside.mkdir()
    entry = {"file": name, "what": PHOTO, "label": None, "sha256": "0" * 64}
    said = spoilt(inside, edited(images=[entry]))
    assert said == f"[Errno 2] No such file or directory: '{inside}/golden/{Path(name).name}'"


def test_decoding_is_zoos() -> None:
    assert decoded(GOLDEN.images[0]).mode == "RGB"
    assert Image.open(BytesIO(GOLDEN.images[0].data)).size == (4, 4)
