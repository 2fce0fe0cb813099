"""Classify image files with a run's best weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo.data import open_image, to_rgb
from zoo.errors import Problem
from zoo.registry import Registry
from zoo.run.folder import RunFolder
from zoo.run.steps import place_alone
from zoo.run.trained import Trained, load_trained

BATCH = 32


@dataclass(frozen=True)
class Answer:
    """An image and its likeliest classes with their probabilities, the likeliest first."""

    image: Path
    classes: tuple[tuple[str, float], ...]


def predict_images(
    folder: RunFolder, registry: Registry, images: Sequence[Path], top: int, device: str = "auto"
) -> tuple[list[Answer], list[Problem]]:
    """Return an answer for every image that can be decoded, in order, and a problem for every one that cannot."""
    trained = load_trained(folder, registry)
    strategy = place_alone(trained.recipe, device)
    strategy.place(trained.network.model)
    answers: list[Answer] = []
    problems: list[Problem] = []
    for start in range(0, len(images), BATCH):
        paths, shaped = _read(trained, images[start : start + BATCH], problems)
        if paths:
            with torch.inference_mode(), strategy.autocast():
                logits = trained.logits(trained.preprocess.normalise(strategy.send(torch.stack(shaped))))
            answers += _answers(paths, logits.float().cpu(), trained.classes, top)
    return answers, problems


def _read(trained: Trained, paths: Sequence[Path], problems: list[Problem]) -> tuple[list[Path], list[Tensor]]:
    """Decode what can be; note what cannot."""
    read: list[Path] = []
    shaped: list[Tensor] = []
    for path in paths:
        try:
            shaped.append(trained.preprocess.shape(to_rgb(open_image(path))))
            read.append(path)
        except (OSError, ValueError) as error:
            problems.append(Problem(f"cannot decode {str(path)!r}: {error}", hint="give an image file"))
    return read, shaped


def _answers(paths: Sequence[Path], logits: Tensor, classes: Sequence[str], top: int) -> Iterator[Answer]:
    shares, indices = logits.softmax(dim=1).topk(min(top, len(classes)))
    for path, row, which in zip(paths, shares.tolist(), indices.tolist(), strict=True):
        yield Answer(path, tuple((classes[index], share) for index, share in zip(which, row, strict=True)))
