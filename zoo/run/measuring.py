"""Measure a predictor on labelled images, matched to its classes by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_precision,
    multiclass_recall,
)

from zoo.bundle import Predictor
from zoo.data.imagefolder import labelled_files
from zoo.errors import DataError, Problem

BINS = 15
"""Of the calibration error (Guo et al. 2017)."""

Unknown = Literal["error", "skip", "wrong"]
Missing = Literal["error", "allow"]


@dataclass(frozen=True)
class ClassReport:
    """One class: its images, and the shares that are right of what was called so and of what is so. None: 0 of 0."""

    name: str
    images: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Report:
    """Shares are in 0 to 1. `confusion[i][j]` counts images of class i that were called class j, in `classes`' order.

    `ece` is the expected calibration error over 15 bins. `unknown` counts images of classes that the model does not
    have, by name; `bad` are those that cannot be decoded.
    """

    images: int
    accuracy: float
    ece: float
    classes: tuple[ClassReport, ...]
    confusion: tuple[tuple[int, ...], ...]
    unknown: dict[str, int]
    missing: tuple[str, ...]
    bad: tuple[Problem, ...]


def measure_folder(predictor: Predictor, root: Path, unknown: Unknown = "error", missing: Missing = "error") -> Report:
    """Return how a predictor does on a folder of class folders (its `val/` where it has one).

    Classes are matched by name. `unknown`: what becomes of folders that are no class of the model: refused, left out,
    or counted as wrong. `missing`: whether classes of the model may have no folder. DataError: they may not, or there
    is no image.
    """
    files = labelled_files(root)
    odd = _unknown(files, predictor.classes)
    absent = tuple(name for name in predictor.classes if name not in files)
    _decide(root, odd, absent, unknown, missing)
    place = {name: index for index, name in enumerate(predictor.classes)}
    pairs = [
        (path, place.get(name, -1))
        for name, paths in files.items()
        for path in paths
        if name in place or unknown == "wrong"
    ]
    logits, targets, bad = _run(predictor, pairs)
    if not len(targets):
        raise DataError("not one image can be decoded", str(root), "give a folder with class folders of images")
    return _report(predictor.classes, logits, targets, odd, absent, bad)


def _unknown(files: dict[str, list[Path]], classes: Sequence[str]) -> dict[str, int]:
    return {name: len(paths) for name, paths in files.items() if name not in classes}


def _decide(root: Path, odd: dict[str, int], absent: Sequence[str], unknown: Unknown, missing: Missing) -> None:
    problems = []
    if odd and unknown == "error":
        what = f"the model has no class {_quoted(list(odd))}"
        hint = "rename the folders, or decide: --unknown skip leaves their images out, wrong counts them as wrong"
        problems.append(Problem(what, str(root), hint))
    if absent and missing == "error":
        what = f"there are no images of the model's class {_quoted(absent)}"
        problems.append(Problem(what, str(root), "add them, or decide: --missing allow measures the others"))
    if problems:
        raise DataError.of(problems)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:6])) + (f", … ({len(names)})" if len(names) > 6 else "")


def _run(predictor: Predictor, pairs: Sequence[tuple[Path, int]]) -> tuple[Tensor, Tensor, tuple[Problem, ...]]:
    """Return logits (N, K) and class indices (N,) of what can be decoded, and what cannot."""
    rows: list[Tensor] = []
    targets: list[int] = []
    bad: list[Problem] = []
    found = predictor.many_logits([path for path, _ in pairs])
    for (path, target), logits in zip(pairs, found, strict=True):
        if isinstance(logits, Tensor):
            rows.append(logits)
            targets.append(target)
        else:
            bad.append(Problem(f"cannot decode {str(path)!r}: {logits}", hint="mend it or take it out"))
    return torch.stack(rows) if rows else torch.zeros(0), torch.tensor(targets), tuple(bad)


def _report(
    classes: Sequence[str],
    logits: Tensor,
    targets: Tensor,
    odd: dict[str, int],
    absent: tuple[str, ...],
    bad: tuple[Problem, ...],
) -> Report:
    known = targets >= 0
    count, inside, meant = len(classes), logits[known], targets[known]
    if not len(inside):  # nothing but folders that the model has no class for
        nothing = tuple(ClassReport(name, 0, None, None) for name in classes)
        return Report(len(targets), 0.0, 0.0, nothing, ((0,) * count,) * count, odd, absent, bad)
    precision = multiclass_precision(inside, meant, count, average=None)
    recall = multiclass_recall(inside, meant, count, average=None)
    confusion = multiclass_confusion_matrix(inside, meant, count)
    called, images = confusion.sum(0), confusion.sum(1)
    right = float(multiclass_accuracy(inside, meant, count, average="micro")) * len(inside) / len(targets)
    reports = tuple(
        ClassReport(
            name,
            int(images[index]),
            float(precision[index]) if called[index] else None,
            float(recall[index]) if images[index] else None,
        )
        for index, name in enumerate(classes)
    )
    ece = float(multiclass_calibration_error(inside.softmax(1), meant, count, n_bins=BINS))
    table = tuple(tuple(row) for row in confusion.tolist())
    return Report(len(targets), right, ece, reports, table, odd, absent, bad)
