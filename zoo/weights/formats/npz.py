"""Archives of numpy arrays."""

import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from zoo.errors import WeightsError
from zoo.weights.formats.damage import first_line, unreadable
from zoo.weights.formats.thaw import as_tensor


def read_npz(path: Path) -> dict[str, Any]:
    """Return the arrays by name as tensors; an array of anything but numbers stays as it is.

    WeightsError: damaged, an array of Python objects (they would be unpickled), or one said to be larger than it is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            return {entry.filename.removesuffix(".npy"): _array(archive, entry, path) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, MemoryError) as error:
        raise unreadable(path, first_line(error)) from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> Any:
    with archive.open(entry) as file:
        shape, kind, begins = _header(file)
    if kind.hasobject:
        raise WeightsError(
            f"{path.name} asks for code to be run: {entry.filename} holds Python objects",
            where=str(path),
            hint="save arrays of numbers alone: np.savez(path, **arrays)",
        )
    if prod(shape) * kind.itemsize != entry.file_size - begins:
        raise ValueError(f"{entry.filename} is not as large as it says")
    with archive.open(entry) as file:
        values: np.ndarray[Any, Any] = npy.read_array(file, allow_pickle=False)
    return as_tensor(values) if kind.kind in "fiubc" and kind.itemsize <= 16 else values


def _header(file: Any) -> tuple[tuple[int, ...], "np.dtype[Any]", int]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind, file.tell()
