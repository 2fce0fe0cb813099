"""Replay: what counts as a difference, and what is said of it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.bundle.made import refusal
from tests.bundle.photos import KINDS, encoded, photo
from zoo.bundle.golden import PHOTO, Golden, GoldenImage
from zoo.bundle.manifest import Artefact
from zoo.bundle.replay import CAUSES, COARSE, REPLAY, replay, tolerance_of

CLASSES = ("a", "b", "c")
ROWS = {b"0": [1.0, 2.0, -4.0], b"1": [0.0, 0.5, 0.25]}
IMAGES = (GoldenImage("00.png", b"0", PHOTO, "a"), GoldenImage("grey.png", b"1", "grey, 8 bits"))
GOLDEN = Golden(IMAGES, CLASSES, {"model.x": list(ROWS.values())})
EVERY = "every image fails: other weights, other preprocessing or another order of classes"
DIFFER = "logits differ by {} of the largest, more than 0.001, and it says 'a' instead of 'b'"
SOME = "some images fail: another size, crop or interpolation perhaps"


def played(predict: Any, golden: Golden = GOLDEN, classes: Any = CLASSES, **keys: Any) -> Any:
    return replay(predict, golden, classes, "model.x", "torch", **keys)


def test_the_same_logits_pass() -> None:
    found = played(ROWS.__getitem__)
    assert (found.ok, found.artefact, found.runtime, found.images, found.difference) == (True, "model.x", "torch", 2, 0)
    assert (found.faults, found.cause) == ((), "")


@pytest.mark.parametrize(
    "form",
    [
        tuple,
        np.array,
        torch.tensor,
        lambda row: dict(zip(CLASSES, row, strict=True)),
        lambda row: dict(reversed(list(zip(CLASSES, row, strict=True)))),
        lambda row: dict(zip(CLASSES, torch.tensor(row), strict=True)),
    ],
)
def test_answers_of_any_form(form: Any) -> None:
    assert played(lambda data: form(ROWS[data])).ok


def test_an_answer_in_another_order_is_told_by_its_names() -> None:
    turned = lambda data: list(reversed(ROWS[data]))  # noqa: E731
    assert played(turned, classes=("c", "b", "a")).ok
    assert not played(turned).ok


def test_the_difference_is_a_share_of_the_largest_logit_of_all() -> None:
    def shifted(by: float) -> Any:
        return lambda data: [ROWS[data][0] + by * (data == b"1"), *ROWS[data][1:]]

    assert played(shifted(0.0039)).ok
    found = played(shifted(0.0041))
    assert found.difference == pytest.approx(0.0041 / 4)
    assert found.faults == ("grey.png (grey, 8 bits): logits differ by 0.001 of the largest, more than 0.001",)
    assert found.cause == "greys do not become RGB by repeating them"
    assert played(shifted(0.0041), tolerance=COARSE).ok


def test_another_class_is_said() -> None:
    found = played(lambda data: [3.0, *ROWS[data][1:]])
    assert found.faults == (
        f"00.png (a validation image): {DIFFER.format(0.5)}",
        f"grey.png (grey, 8 bits): {DIFFER.format(0.75)}",
    )
    assert found.cause == EVERY


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_not_finite_fails_wherever_it_stands(place: int, value: float) -> None:
    def predict(data: bytes) -> list[float]:
        row = list(ROWS[data])
        row[place] = value if data == b"1" else row[place]
        return row

    found = played(predict)
    assert found.faults == ("grey.png (grey, 8 bits): it gives logits that are not finite",)
    assert found.difference == math.inf
    assert (
        found.cause == "numbers leave their range: those of float16 perhaps, or its weights are not finite themselves"
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([1.0, 2.0], "ValueError: it gives 2 logits for 3 classes"),
        ([[1.0, 2.0, -4.0]], "ValueError: it gives 1 logits for 3 classes"),
        ({"a": 1.0, "b": 2.0}, "ValueError: its classes are others: 'c'"),
        ({"a": 1.0, "b": 2.0, "x": 3.0}, "ValueError: its classes are others: 'c', 'x'"),
        ({f"x{place}": 1.0 for place in range(9)}, "ValueError: its classes are others: 'a', 'b', 'c', 'x0'"),
        (3.0, "TypeError: object of type 'float' has no len()"),
        (None, "TypeError: object of type 'NoneType' has no len()"),
        (["x", "y", "z"], "ValueError: could not convert string to float: 'x'"),
    ],
)
def test_an_answer_that_is_none(answer: Any, message: str) -> None:
    found = played(lambda data: answer)
    assert found.faults == (f"00.png (a validation image): {message}", f"grey.png (grey, 8 bits): {message}")
    assert (found.difference, found.cause) == (math.inf, EVERY)


def test_code_that_raises_fails_that_image_only() -> None:
    def predict(data: bytes) -> list[float]:
        if data == b"1":
            raise KeyError("grey")
        return ROWS[data]

    found = played(predict)
    assert found.faults == ("grey.png (grey, 8 bits): KeyError: 'grey'",)
    assert (found.images, found.difference) == (2, math.inf)


def test_ctrl_c_ends_the_replay() -> None:
    def predict(data: bytes) -> list[float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        played(predict)


def test_class_names_may_come_twice() -> None:
    twice = ("crane", "crane", "bird")
    golden = Golden(IMAGES, twice, GOLDEN.logits)
    assert played(ROWS.__getitem__, golden, twice).ok


def test_logits_that_are_all_zero() -> None:
    golden = Golden(IMAGES, CLASSES, {"model.x": [[0.0] * 3] * 2})
    assert played(lambda data: [0.0] * 3, golden).ok
    assert not played(lambda data: [0.0, 0.0, 1e-9], golden).ok


def test_an_artefact_without_recorded_logits() -> None:
    assert refusal(lambda: replay(ROWS.__getitem__, GOLDEN, CLASSES, "model.y", "torch")) == (
        "the golden images have no logits of model.y\n  mend:  export the run again"
    )


PHOTOS = [GoldenImage(f"{place:02d}", KINDS["jpeg"](photo("sky", place)), PHOTO) for place in range(2)]
OTHERS = [
    *("wide.jpg", "tall.png", "sideways.jpg", "grey.png", "grey16.png", "transparent.png", "palette.png", "cmyk.jpg"),
]


def cause(failing: set[str], *kinds: str) -> str:
    """Return the cause where those files fail; `kinds` are further validation images, named so."""
    more = [GoldenImage(kind, KINDS[kind](photo("leaf", 9)), PHOTO) for kind in kinds]
    images = (*PHOTOS, *more, *(GoldenImage(name, name.encode(), "a variant") for name in OTHERS))
    golden = Golden(images, CLASSES, {"model.x": [[1.0, 0.0, 0.0]] * len(images)})
    failed = {image.data for image in images if image.file in failing}
    return str(played(lambda data: [2.0 if data in failed else 1.0, 0.0, 0.0], golden).cause)


@pytest.mark.parametrize(("files", "named"), CAUSES)
def test_every_cause_is_named(files: frozenset[str], named: str) -> None:
    assert cause(set(files)) == named


def test_other_images_have_no_certain_cause() -> None:
    assert cause({"00"}) == cause({"00", "wide.jpg"}) == cause({"grey.png", "sideways.jpg"}) == SOME
    assert cause({"00", "01", *OTHERS}) == EVERY


@pytest.mark.parametrize(
    ("kind", "variant"),
    [
        ("turned", "sideways.jpg"),
        ("turned png", "sideways.jpg"),
        ("rgba", "transparent.png"),
        ("palette", "transparent.png"),
        ("grey and alpha", "transparent.png"),
        ("16 bits", "grey16.png"),
        ("grey", "grey.png"),
        ("grey jpeg", "grey.png"),
        ("bits", "grey.png"),
        ("cmyk", "cmyk.jpg"),
    ],
)
def test_validation_images_of_one_kind_fail_for_its_cause(kind: str, variant: str) -> None:
    assert cause({kind, variant}, kind) == next(named for files, named in CAUSES if variant in files)


def test_what_is_coarse() -> None:
    exact = Artefact(
        exporter="x", options={}, runtime="torch", takes="normalised", files={"model.x": "0" * 64},
        bytes=1, tolerance=1.0, difference=0.0,
    )  # fmt: skip
    assert tolerance_of(exact) == REPLAY
    assert tolerance_of(exact.model_copy(update={"accuracy": 0.5})) == COARSE


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3), st.lists(st.floats(), min_size=3, max_size=3))
def test_it_passes_exactly_where_every_logit_is_near(row: list[float], found: list[float]) -> None:
    golden = Golden(IMAGES[:1], CLASSES, {"model.x": [row]})
    largest = max(map(abs, row)) or 1e-12
    near = all(
        math.isfinite(value) and abs(value - wanted) / largest <= REPLAY
        for value, wanted in zip(found, row, strict=True)
    )
    assert played(lambda data: found, golden).ok == near


def test_the_images_bytes_are_what_is_given() -> None:
    seen: list[bytes] = []
    played(lambda data: seen.append(data) or ROWS[data])
    assert seen == [b"0", b"1"]
    assert encoded(Image.new("L", (1, 1)), "PNG")
