"""Files of torch.save, read by torch's own safe reader."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from zoo.errors import WeightsError
from zoo.weights.formats.damage import first_line, unreadable
from zoo.weights.formats.inert import BROKEN
from zoo.weights.formats.pickled import named, read_inert


def read_torch(path: Path, mapped: bool) -> Any:
    """Return the file's content, tensors on the CPU wherever they were saved, mapped from the file when `mapped`.

    WeightsError: damaged, or it asks for more than tensors and plain data: every name it asks for is in the message.
    """
    try:
        with warnings.catch_warnings():
            # It warns of pickles that it then cannot read; here they are read otherwise.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return _load_mapped(path) if mapped else _load(path)
    except pickle.UnpicklingError as error:
        return _read_otherwise(path, error)
    # A damaged stream of the older format fails wherever the next byte leads it.
    except BROKEN as error:
        raise unreadable(path, first_line(error)) from error


def _load_mapped(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _load(path: Path) -> Any:
    # Given a name, torch would go by its suffix.
    with path.open("rb") as file:
        return torch.load(file, map_location="cpu", weights_only=True)


def _read_otherwise(path: Path, error: pickle.UnpicklingError) -> Any:
    names = named(path)
    if names:
        raise WeightsError(
            f"{path.name} asks for code to be run: {', '.join(names)}",
            where=str(path),
            hint=f"`zoo weights convert {path.name} OUT` writes its tensors alone and runs none of it",
        ) from error
    try:
        # Torch's reader knows protocol 2 alone; plain data of a newer one is plain data too.
        return read_inert(path).content
    except WeightsError:
        raise unreadable(path, first_line(error).split(". ")[0]) from error
