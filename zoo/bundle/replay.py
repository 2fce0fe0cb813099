"""Replay golden images, from their bytes on, through anything that gives logits."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zoo.bundle.golden import Golden, GoldenImage

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
"""What is likely wrong when no other images than these fail."""


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


def replay(
    predict: Predict, golden: Golden, classes: Sequence[str], artefact: str, runtime: str, tolerance: float = REPLAY
) -> Outcome:
    """Return how `predict` does on the golden images, compared with the logits recorded for `artefact`.

    `classes` are the names for the order of its logits, where it gives them without.
    """
    expected = golden.logits[artefact]
    largest = max((abs(value) for row in expected for value in row), default=0.0) or 1e-12
    faults: dict[str, str] = {}
    worst = 0.0
    for image, row in zip(golden.images, expected, strict=True):
        try:
            found = _in_order(predict(image.data), classes, golden.classes)
        except Exception as error:  # noqa: BLE001  anybody's code
            faults[image.file] = f"{_shown(image)}: {type(error).__name__}: {error}"
            continue
        difference = max(abs(a - b) for a, b in zip(found, row, strict=True)) / largest
        worst = difference if not difference <= worst else worst
        if not difference <= tolerance:
            faults[image.file] = _fault(image, found, row, golden.classes, difference, tolerance)
    cause = _cause(set(faults), len(golden.images))
    return Outcome(artefact, runtime, len(golden.images), worst, tuple(faults.values()), cause)


def _in_order(
    given: Mapping[str, float] | Sequence[float], classes: Sequence[str], wanted: Sequence[str]
) -> list[float]:
    """Return logits in the order of `wanted`. ValueError: they are of other classes."""
    if not isinstance(given, Mapping):
        if len(given) != len(classes):
            raise ValueError(f"it gives {len(given)} logits for {len(classes)} classes")
        given = dict(zip(classes, given, strict=True))
    if set(given) != set(wanted):
        odd = sorted(set(given) ^ set(wanted))
        raise ValueError(f"its classes are others: {', '.join(map(repr, odd[:4]))}")
    return [float(given[name]) for name in wanted]


def _fault(
    image: GoldenImage,
    found: Sequence[float],
    row: Sequence[float],
    classes: Sequence[str],
    difference: float,
    tolerance: float,
) -> str:
    if not all(math.isfinite(value) for value in found):
        return f"{_shown(image)}: it gives logits that are not finite"
    said, meant = _first(found, classes), _first(row, classes)
    says = f", and it says {said!r} instead of {meant!r}" if said != meant else ""
    return f"{_shown(image)}: logits differ by {difference:.2g} of the largest, more than {tolerance:g}{says}"


def _first(row: Sequence[float], classes: Sequence[str]) -> str:
    return classes[max(range(len(row)), key=row.__getitem__)]


def _shown(image: GoldenImage) -> str:
    return f"{image.file} ({image.what})"


def _cause(failed: set[str], images: int) -> str:
    if not failed:
        return ""
    if len(failed) == images:
        return "every image fails: other weights, other preprocessing or another order of classes"
    likely = [cause for files, cause in CAUSES if failed <= files]
    return likely[0] if likely else "some images fail: another size, crop or interpolation perhaps"
