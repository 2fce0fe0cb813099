"""Replay golden images, from their bytes on, through anything that gives logits."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zoo.bundle.golden import PHOTO, UPRIGHT, Golden, GoldenImage, decoded, orientation
from zoo.bundle.manifest import Artefact
from zoo.errors import ZooError

REPLAY = 1e-3
"""Largest difference of a logit from what the same artefact gave when it was written, relative to the largest logit:
other kernels and other decoders of JPEG, and far less than any of the mistakes in tests/bundle/skews.py."""
COARSE = 0.05
"""The same for what is quantised: processors round its sums in other places."""


Predict = Callable[[bytes], Mapping[str, float] | Sequence[float]]
"""From an image file's bytes to logits, by class name or in the order of model.json's classes."""

CAUSES: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"sideways.jpg"}), "the EXIF orientation is ignored"),
    (frozenset({"transparent.png", "palette.png"}), "transparency is not laid over white"),
    (frozenset({"grey16.png"}), "16-bit greys do not keep their upper byte"),
    (frozenset({"grey.png", "grey16.png"}), "greys do not become RGB by repeating them"),
    (frozenset({"cmyk.jpg"}), "CMYK becomes RGB in another way"),
    (frozenset({"wide.jpg", "sideways.jpg"}), "large images are resized in another way, without antialias perhaps"),
)
"""What is likely wrong when no other images than these fail, or validation images like them."""
NOT_FINITE = "it gives logits that are not finite"


@dataclass(frozen=True)
class Outcome:
    """How an artefact did: its largest difference on so many images, and what is wrong, a line an image."""

    artefact: str
    runtime: str
    images: int
    difference: float
    faults: tuple[str, ...] = ()
    cause: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def tolerance_of(artefact: Artefact) -> float:
    """Return what an artefact may differ by: COARSE where it rounds so coarsely that its accuracy was measured."""
    return REPLAY if artefact.accuracy is None else COARSE


def replay(
    predict: Predict, golden: Golden, classes: Sequence[str], artefact: str, runtime: str, tolerance: float = REPLAY
) -> Outcome:
    """Return how `predict` does on the golden images, compared with the logits recorded for `artefact`.

    `classes` are the names for the order of its logits, where it gives them without. ZooError: none are recorded.
    """
    if artefact not in golden.logits:
        what = f"the golden images have no logits of {artefact}"
        raise ZooError(what, hint="export the run again")
    expected = golden.logits[artefact]
    largest = max((abs(value) for row in expected for value in row), default=0.0) or 1e-12
    faults: dict[str, str] = {}
    worst = 0.0
    for image, row in zip(golden.images, expected, strict=True):
        try:
            found = _in_order(predict(image.data), classes, golden.classes)
        except Exception as error:  # noqa: BLE001  anybody's code
            faults[image.file] = f"{_shown(image)}: {type(error).__name__}: {error}"
            worst = math.inf
            continue
        difference = _difference(found, row) / largest
        worst = max(worst, difference)
        if difference > tolerance:
            faults[image.file] = _fault(image, found, row, golden.classes, difference, tolerance)
    failed = [image for image in golden.images if image.file in faults]
    cause = _cause(failed, len(golden.images), any(fault.endswith(NOT_FINITE) for fault in faults.values()))
    return Outcome(artefact, runtime, len(golden.images), worst, tuple(faults.values()), cause)


def _in_order(
    given: Mapping[str, float] | Sequence[float], classes: Sequence[str], wanted: Sequence[str]
) -> list[float]:
    """Return logits in the order of `wanted`. ValueError: they are of other classes."""
    if not isinstance(given, Mapping):
        if len(given) != len(classes):
            raise ValueError(f"it gives {len(given)} logits for {len(classes)} classes")
        if tuple(classes) == tuple(wanted):  # names may come twice
            return [float(value) for value in given]
        given = dict(zip(classes, given, strict=True))
    if set(given) != set(wanted):
        odd = sorted(set(given) ^ set(wanted))
        raise ValueError(f"its classes are others: {', '.join(map(repr, odd[:4]))}")
    return [float(given[name]) for name in wanted]


def _difference(found: Sequence[float], row: Sequence[float]) -> float:
    """Return the largest difference; infinite where any is not a number, which `max` would pass over."""
    apart = [abs(a - b) for a, b in zip(found, row, strict=True)]
    return max(apart) if all(map(math.isfinite, apart)) else math.inf


def _fault(
    image: GoldenImage,
    found: Sequence[float],
    row: Sequence[float],
    classes: Sequence[str],
    difference: float,
    tolerance: float,
) -> str:
    if not all(math.isfinite(value) for value in found):
        return f"{_shown(image)}: {NOT_FINITE}"
    said, meant = _first(found, classes), _first(row, classes)
    says = f", and it says {said!r} instead of {meant!r}" if said != meant else ""
    return f"{_shown(image)}: logits differ by {difference:.2g} of the largest, more than {tolerance:g}{says}"


def _first(row: Sequence[float], classes: Sequence[str]) -> str:
    return classes[max(range(len(row)), key=row.__getitem__)]


def _shown(image: GoldenImage) -> str:
    return f"{image.file} ({image.what})"


def _cause(failed: Sequence[GoldenImage], images: int, overflow: bool) -> str:
    if not failed:
        return ""
    if overflow:
        return "numbers leave their range: those of float16 perhaps, or its weights are not finite themselves"
    if len(failed) == images:
        return "every image fails: other weights, other preprocessing or another order of classes"
    alike = {_like(image) for image in failed}
    likely = [cause for files, cause in CAUSES if alike <= files]
    return likely[0] if likely else "some images fail: another size, crop or interpolation perhaps"


def _like(image: GoldenImage) -> str:
    """Return the variant that a validation image is like; its own name where it is like none."""
    if image.what != PHOTO:
        return image.file
    opened = decoded(image)
    if orientation(opened) != UPRIGHT:
        return "sideways.jpg"
    if opened.has_transparency_data:
        return "transparent.png"
    if opened.mode.startswith("I"):
        return "grey16.png"
    return {"L": "grey.png", "1": "grey.png", "CMYK": "cmyk.jpg"}.get(opened.mode, image.file)
