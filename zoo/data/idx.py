"""MNIST-format (IDX) files, plain or gzipped. Format: the foot of http://yann.lecun.com/exdb/mnist/."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.data.arrays import ArraySplit
from zoo.errors import DataError
from zoo.registry.builtin.data import IdxOptions
from zoo.registry.contracts import DataSource

UBYTE = 0x08
"""The magic number is two zero bytes, the type of the values, and the number of dimensions."""


def build(options: IdxOptions, seed: int) -> DataSource:
    """Return the files' images (mode L) and splits. Nothing is drawn, so `seed` is not used.

    DataError: a file is missing, truncated or of another type, counts differ, or a label has no class name.
    """
    train = _read_split(options.root, options.train_images, options.train_labels)
    val = _read_split(options.root, options.val_images, options.val_labels)
    classes = tuple(options.classes) or tuple(str(label) for label in range(int(train[1].max(initial=0)) + 1))
    for name, (_, labels) in ((options.train_labels, train), (options.val_labels, val)):
        highest = int(labels.max(initial=0))
        if highest >= len(classes):
            raise DataError(f"label {highest} is no class: there are {len(classes)}", str(options.root / name))
    return DataSource(ArraySplit(*train, "idx/train"), ArraySplit(*val, "idx/val"), classes)


def _read_split(root: Path, images: str, labels: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    pictures = read_idx(_find(root, images), dimensions=3)
    targets = read_idx(_find(root, labels), dimensions=1)
    if len(pictures) != len(targets):
        raise DataError(f"{len(pictures)} images but {len(targets)} labels", f"{root / images}, {root / labels}")
    return pictures, targets


def _find(root: Path, name: str) -> Path:
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError("no such file, nor with .gz", str(root / name), "set data.root and the four file names")


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Return the array of unsigned bytes in an IDX file. DataError: another type, dimensions or length."""
    data = _read_bytes(path)
    if len(data) < 4 or data[:4] != bytes((0, 0, UBYTE, dimensions)):
        raise DataError(
            f"not an IDX file of unsigned bytes in {dimensions} dimensions: it starts with {data[:4].hex(' ')!r}",
            str(path),
            f"{bytes((0, 0, UBYTE, dimensions)).hex(' ')!r} is expected",
        )
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise DataError(f"truncated: {len(data)} bytes", str(path))
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    if len(data) - start != math.prod(shape):
        raise DataError(f"{len(data) - start:,} bytes of values where {shape} needs {math.prod(shape):,}", str(path))
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the file cannot be read: {error}", str(path), "download it again") from error
