"""A predictor: one image of any form, several, and streams of them."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.bundle.photos import KINDS, encoded, photo, turned
from zoo.bundle import Prediction, Predictor
from zoo.bundle.predictor import BATCH
from zoo.registry.contracts import InputSpec

CLASSES = ("red", "green", "blue", "none")
SPEC = InputSpec((8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", 1.0)


def brightest(images: Tensor) -> Tensor:
    """Logits: each channel's mean, in 0 to 10; and a class that is never it."""
    means = images.float().mean((2, 3)) * (10 if images.dtype != torch.uint8 else 10 / 255)
    return torch.cat([means, torch.full((len(images), 1), -1.0)], 1)


PREDICTOR = Predictor(brightest, SPEC, CLASSES)
WHOLE = Predictor(brightest, SPEC, CLASSES, "decoded")


def plain(colour: Any, size: tuple[int, int] = (12, 10)) -> Image.Image:
    return Image.new("RGB", size, colour)


GREEN = plain((10, 200, 10))
PNG = encoded(GREEN, "PNG")
ARRAY = np.asarray(GREEN)
TENSOR = torch.from_numpy(ARRAY.copy()).permute(2, 0, 1)


@pytest.fixture
def path(tmp_path) -> Path:
    (tmp_path / "green.png").write_bytes(PNG)
    return tmp_path / "green.png"


def test_a_path(path) -> None:
    assert PREDICTOR(path) == PREDICTOR(str(path)) == PREDICTOR(GREEN)
    assert PREDICTOR(path).name == "green"


BYTES = (PNG, bytearray(PNG), memoryview(PNG))


@pytest.mark.parametrize(
    "image",
    [*BYTES, GREEN, GREEN.convert("RGBA"), Image.open(BytesIO(PNG)), ARRAY, ARRAY[::-1], TENSOR],
    ids=["bytes", "bytearray", "memoryview", "PIL", "RGBA", "not loaded", "array", "strided", "tensor"],
)
def test_an_image_of_any_form(image: Any) -> None:
    found = PREDICTOR(image)
    assert (type(found), found) == (Prediction, PREDICTOR(GREEN))


def test_greys_are_repeated() -> None:
    grey = np.full((9, 9), 128, np.uint8)
    for image in (grey, torch.from_numpy(grey)[None], Image.fromarray(grey)):
        torch.testing.assert_close(PREDICTOR.logits([PREDICTOR.decode(image)])[0, :3], torch.full((3,), 1280 / 255))


def test_an_array_with_transparency_is_laid_over_white() -> None:
    clear = np.zeros((9, 9, 4), np.uint8)
    assert PREDICTOR.logits([PREDICTOR.decode(clear)])[0, :3].tolist() == pytest.approx([10.0] * 3)


@pytest.mark.parametrize(
    "images",
    [
        [PNG, GREEN, ARRAY, TENSOR],
        (PNG, PNG),
        np.stack([ARRAY] * 3),
        torch.stack([TENSOR] * 3),
        [turned(photo("sky", 0)), plain("red", (500, 3)), np.zeros((1, 1), np.uint8)],
        [PNG],
        np.stack([ARRAY]),
    ],
)
@pytest.mark.parametrize("predictor", [PREDICTOR, WHOLE])
def test_several_get_a_list(images: Any, predictor: Predictor) -> None:
    found = predictor(images)
    assert type(found) is list
    for one, alone in zip(found, [predictor(image) for image in images], strict=True):
        assert one.name == alone.name
        assert [share for _, share in one.classes] == pytest.approx([share for _, share in alone.classes], rel=1e-5)


@pytest.mark.parametrize(
    "images", [[], (), np.zeros((0, 4, 4, 3), np.uint8), torch.zeros(0, 3, 4, 4, dtype=torch.uint8)]
)
def test_none_get_none(images: Any) -> None:
    assert PREDICTOR(images) == []
    assert list(PREDICTOR.many(images)) == []


def test_the_likeliest_come_first_and_no_more_than_there_are() -> None:
    found = PREDICTOR(plain((255, 128, 0)), top=3)
    assert [name for name, _ in found.classes] == ["red", "green", "blue"]
    assert [share for _, share in found.classes] == sorted((share for _, share in found.classes), reverse=True)
    everything = PREDICTOR(plain((255, 128, 0)), top=99).classes
    assert everything[:3] == found.classes
    assert [name for name, _ in everything] == list(CLASSES)
    assert sum(share for _, share in everything) == pytest.approx(1)


TYPES = "give a path, bytes, a PIL image, an array or a tensor"
SHAPE = "give uint8 (3, H, W) or (1, H, W)"
ARRAYS = "give (H, W), (H, W, 3) or (H, W, 4)"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (3, f"int is no image: {TYPES}"),
        (None, f"NoneType is no image: {TYPES}"),
        (BytesIO(PNG), f"BytesIO is no image: {TYPES}"),
        (TENSOR / 255, "float32 values are no image: give uint8, 0 to 255"),
        ((TENSOR / 255).requires_grad_(), "float32 values are no image: give uint8, 0 to 255"),
        (TENSOR.to(torch.bfloat16), "bfloat16 values are no image: give uint8, 0 to 255"),
        (TENSOR.long(), "int64 values are no image: give uint8, 0 to 255"),
        (TENSOR.bool(), "bool values are no image: give uint8, 0 to 255"),
        (ARRAY / 255, "float64 values are no image: give uint8, 0 to 255"),
        (ARRAY.astype(np.uint16), "uint16 values are no image: give uint8, 0 to 255"),
        (torch.from_numpy(ARRAY.copy()), f"a tensor of shape (10, 12, 3) is no image: {SHAPE}"),
        (TENSOR[0], f"a tensor of shape (10, 12) is no image: {SHAPE}"),
        (TENSOR[None, None], f"a tensor of shape (1, 1, 3, 10, 12) is no image: {SHAPE}"),
        (ARRAY.transpose(2, 0, 1), f"an array of shape (3, 10, 12) is no image: {ARRAYS}"),
        (ARRAY[..., :2], f"an array of shape (10, 12, 2) is no image: {ARRAYS}"),
        (ARRAY[0, 0], f"an array of shape (3,) is no image: {ARRAYS}"),
        (ARRAY[None, ..., :1], f"an array of shape (10, 12, 1) is no image: {ARRAYS}"),
        ((TENSOR / 255)[None], "float32 values are no image: give uint8, 0 to 255"),
    ],
)
def test_what_is_no_image(image: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        PREDICTOR(image)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "it is in no image format that Pillow reads"),
        (b"no image", "it is in no image format that Pillow reads"),
        (plain("red", (0, 5)), "an image of 0 × 5 pixels shows nothing"),
        (np.zeros((4, 0, 3), np.uint8), "an image of 0 × 4 pixels shows nothing"),
    ],
)
@pytest.mark.parametrize("predictor", [PREDICTOR, WHOLE])
def test_what_cannot_be_decoded(predictor: Predictor, image: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        predictor(image)
    assert str(caught.value) == message


def test_truncated_files_and_no_file(tmp_path) -> None:
    with pytest.raises(OSError, match=r"^image file is truncated|^unrecognized data stream"):
        PREDICTOR(encoded(photo("sky", 0), "PNG")[:2000])
    with pytest.raises(FileNotFoundError):
        PREDICTOR(tmp_path / "no.png")


def test_a_network_that_preprocesses_itself_gets_every_image_at_its_size() -> None:
    seen: list[tuple[int, ...]] = []

    def network(images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        seen.append(tuple(images.shape))
        return brightest(images)

    predictor = Predictor(network, SPEC, CLASSES, "decoded")
    sizes = [(30, 20), (30, 20), (7, 9)]
    predictor([plain("red", size) for size in sizes])
    predictor([plain("red", (30, 20))] * 3)
    assert seen == [(1, 3, 20, 30), (1, 3, 20, 30), (1, 3, 9, 7), *[(1, 3, 20, 30)] * 3]
    assert predictor(turned(photo("sky", 0))).name == "blue"


def test_batches_are_no_larger_than_they_may_be() -> None:
    seen: list[int] = []

    def network(images: Tensor) -> Tensor:
        seen.append(len(images))
        return brightest(images)

    Predictor(network, SPEC, CLASSES)([GREEN] * (2 * BATCH + 3))
    assert seen == [BATCH, BATCH, 3]
    seen.clear()
    assert len(list(Predictor(network, SPEC, CLASSES).many(iter([GREEN] * (2 * BATCH + 3))))) == 2 * BATCH + 3
    assert seen == [BATCH, BATCH, 3]


def test_no_gradients_and_logits_are_float32_on_the_cpu() -> None:
    weight = torch.ones(1, requires_grad=True)
    predictor = Predictor(lambda images: (brightest(images) * weight).double(), SPEC, CLASSES)
    logits = predictor.logits([predictor.decode(GREEN)])
    assert (logits.dtype, logits.device.type, logits.requires_grad) == (torch.float32, "cpu", False)
    assert predictor.logits([]).shape == (0, 4)


COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
BAD: dict[str, Any] = {"bytes": b"no image", "type": 3.5, "path": Path("/no/such/file.png"), "float": TENSOR / 255}


@given(st.lists(st.sampled_from([*COLOURS, *BAD]), max_size=3 * BATCH))
@settings(max_examples=25, deadline=None)
def test_many_keep_their_order_and_count_and_say_which_are_bad(names: list[str]) -> None:
    images = [BAD[name] if name in BAD else plain(COLOURS[name]) for name in names]
    found = list(PREDICTOR.many(iter(images), top=2))
    assert len(found) == len(names)
    for name, answer in zip(names, found, strict=True):
        if name in BAD:
            assert isinstance(answer, {"bytes": ValueError, "path": OSError}.get(name, TypeError))
        else:
            assert isinstance(answer, Prediction)
            assert (answer.name, len(answer.classes)) == (name, 2)


@given(st.lists(st.lists(st.floats(-300, 300, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_probabilities_sum_to_one(rows: list[list[float]]) -> None:
    predictor = Predictor(lambda images: torch.tensor(rows), SPEC, CLASSES)
    for row, found in zip(rows, predictor([GREEN] * len(rows), top=4), strict=True):
        shares = dict(found.classes)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert all(0 <= share <= 1 for share in shares.values())
        assert row[CLASSES.index(found.name)] >= max(row) - 1e-5  # what is nearer has the same share


def test_many_need_not_know_how_many_there_are() -> None:
    taken: list[int] = []

    def endless() -> Any:
        while True:
            taken.append(1)
            yield GREEN

    found = PREDICTOR.many(endless())
    assert [next(found).name for _ in range(3)] == ["green"] * 3
    found.close()
    assert len(taken) <= 4 * BATCH


def test_a_fault_of_the_network_is_no_bad_image() -> None:
    def network(images: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Predictor(network, SPEC, CLASSES).many([GREEN]))


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_and_pillows_image_of_them_are_the_same(kind: str) -> None:
    data = KINDS[kind](photo("leaf", 3))
    opened = Image.open(BytesIO(data))
    assert torch.equal(PREDICTOR.decode(data), PREDICTOR.decode(opened))
    assert WHOLE.decode(data).shape[1:] == (72, 96)
