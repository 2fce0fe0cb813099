"""Classify image files: which files are meant, and an answer or a problem for each."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.bundle import Prediction, Predictor
from zoo.data.imagefolder import EXTENSIONS
from zoo.errors import Problem, ZooError


@dataclass(frozen=True)
class Answer:
    """An image and its likeliest classes with their probabilities, the likeliest first."""

    image: Path
    classes: tuple[tuple[str, float], ...]


def find_images(named: Sequence[str], listed: Iterable[str] = ()) -> list[Path]:
    """Return the files that are meant, in order: files, folders (their images at any depth), globs, "-" for `listed`.

    ZooError: a folder without images, a glob that matches nothing, or nothing at all.
    """
    found = [path for name in named for path in (_listed(listed) if name == "-" else _meant(name))]
    if not found:
        raise ZooError("there are no images to classify", hint="give files, folders, globs, or - for a list of files")
    return found


def _listed(lines: Iterable[str]) -> Iterator[Path]:
    for line in lines:
        name = line.rstrip("\r\n")
        if name:
            yield Path(name)


def _meant(name: str) -> list[Path]:
    path = Path(name)
    if os.path.isdir(name):
        files = sorted(_below(path))
        if not files:
            raise ZooError(f"no images in the folder {name!r}", hint="give a folder with image files at any depth")
        return files
    if not os.path.exists(name) and glob.has_magic(name):
        matches = sorted(Path(match) for match in glob.glob(name, recursive=True) if Path(match).is_file())
        if not matches:
            raise ZooError(f"no file matches {name!r}", hint="** goes through folders")
        return matches
    return [path]


def _below(folder: Path) -> Iterator[Path]:
    """Yield the image files at any depth, hidden ones left out. ZooError: a folder cannot be read."""

    def refuse(error: OSError) -> None:
        what = f"the folder {error.filename!r} cannot be read: {error.strerror}"
        raise ZooError(what, hint="mend this, or name the files") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                yield Path(place) / name


def classify(predictor: Predictor, images: Sequence[Path], top: int) -> Iterator[Answer | Problem]:
    """Yield an answer for every image that can be decoded, in order, and a problem for every one that cannot."""
    for path, found in zip(images, predictor.many(images, top), strict=True):
        if isinstance(found, Prediction):
            yield Answer(path, found.classes)
        else:
            yield Problem(f"cannot decode {str(path)!r}: {found}", hint="give an image file")
