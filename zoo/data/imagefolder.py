"""A folder of class folders, or `train/` and `val/` with class folders in each."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.data.images import open_image
from zoo.data.split import split_in_two
from zoo.errors import DataError
from zoo.registry.builtin.data import ImageFolderOptions
from zoo.registry.contracts import DataSource

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".avif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".tga", ".ico", ".pcx"}
)
"""File names that count as images, in either case; all others are passed over."""

OTHER_NAMES = ("valid", "validation", "test", "testing", "dev", "eval")
"""What people call a validation split that is not `val`."""


@dataclass(frozen=True)
class _Classes:
    """The class folders below one folder: names sorted as strings, as torchvision sorts them, and their files."""

    folder: Path
    files: dict[str, list[str]]


class FolderSplit:
    """Image files, named relative to `root` with forward slashes, and their class indices."""

    def __init__(self, root: Path, files: Sequence[str], targets: Sequence[int]) -> None:
        self._root = root
        self._files = list(files)
        self._targets = np.asarray(targets, dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._files)

    def image(self, index: int) -> Image.Image:
        """Return the image as stored. OSError, ValueError: it cannot be decoded."""
        return open_image(self._root / self._files[index])

    def target(self, index: int) -> int:
        """Return the class index."""
        return int(self._targets[index])

    def identity(self, index: int) -> str:
        """Return the path relative to the root, with forward slashes."""
        return self._files[index]


def build(options: ImageFolderOptions, seed: int) -> DataSource:
    """Return the folder's splits. A folder without `train/` and `val/` is split by `val_fraction` and `seed`.

    Hidden files and folders are passed over, and links followed. DataError: it is missing or cannot be read, a class
    has no images, or a class to validate on is none to train on.
    """
    root = options.root
    names = _folders(root)
    if "train" in names and "val" in names:
        return _two_splits(root)
    _check_layout(root, names)
    found = _find_classes(root)
    classes = tuple(found.files)
    return split_in_two(_split(root, found, classes), classes, options.val_fraction, seed)


def labelled_files(root: Path) -> dict[str, list[Path]]:
    """Return {class: its image files} of a folder of class folders, or of its `val/`; classes need not have any.

    DataError: it cannot be read, or has no class folders.
    """
    folder = root / "val" if {"train", "val"} <= set(_folders(root)) else root
    names = _folders(folder)
    if not names:
        raise DataError("there are no class folders", str(folder), "one folder a class, its name the class's")
    return {name: [folder / file for file in sorted(_images(folder / name, name, frozenset()))] for name in names}


def _two_splits(root: Path) -> DataSource:
    train, val = _find_classes(root / "train"), _find_classes(root / "val")
    classes = tuple(train.files)
    strange = [name for name in val.files if name not in train.files]
    if strange:
        shown = ", ".join(repr(name) for name in strange)
        raise DataError(f"classes to validate on but none to train on: {shown}", str(val.folder))
    return DataSource(_split(root, train, classes), _split(root, val, classes), classes)


def _check_layout(root: Path, names: Sequence[str]) -> None:
    """Refuse `train/` without `val/` where it holds class folders: its classes would become one, named "train"."""
    if "train" not in names or not _folders(root / "train"):
        return
    other = next((name for name in OTHER_NAMES if name in names), None)
    hint = f"rename {other}/ to val/" if other else "add val/, or set data.root to train/ to have it split"
    raise DataError("there is train/ but no val/", str(root), hint)


def _split(root: Path, found: _Classes, classes: Sequence[str]) -> FolderSplit:
    prefix = "" if found.folder == root else f"{found.folder.name}/"
    number = {name: index for index, name in enumerate(classes)}
    pairs = [(prefix + file, number[name]) for name, files in found.files.items() for file in files]
    return FolderSplit(root, [file for file, _ in pairs], [target for _, target in pairs])


def _find_classes(folder: Path) -> _Classes:
    names = _folders(folder)
    if not names:
        raise DataError("there are no class folders", str(folder), "one folder a class, its name the class's")
    found = {name: sorted(_images(folder / name, name, frozenset())) for name in names}
    empty = [name for name, files in found.items() if not files]
    if empty:
        shown = ", ".join(repr(name) for name in empty)
        raise DataError(f"no images in class {shown}", str(folder), "add images, or remove the folder")
    return _Classes(folder, found)


def _images(folder: Path, name: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Yield image files at any depth, as `name/…`; a link back to a folder above is not followed."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in _visible(folder):
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            yield from _images(folder / entry.name, path, above | {here})
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            yield path


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _visible(folder) if entry.is_dir())


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"the folder cannot be read: {reason}", str(folder), "set data.root to a folder of images"
        ) from error
