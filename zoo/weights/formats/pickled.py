"""Files of torch.save, and plain pickles of arrays, read inertly: the whole of the file as plain data."""

import io
import re
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from zoo.weights.formats.damage import first_line, unreadable
from zoo.weights.formats.inert import BROKEN, unpickle
from zoo.weights.formats.thaw import item_size, thaw

MAGIC = 0x1950A86A20F9469CFC6C  # the older format's first pickle
_SAFE = re.compile(
    r"torch\.\w+(Storage|Tensor)|torch\.storage\.(Untyped|Typed)Storage|torch\._utils\._rebuild_\w+|torch\.Size"
    r"|torch\.Tensor|torch\.device|torch\._tensor\._rebuild_from_type_v2|torch\.nn\.parameter\.Parameter"
    r"|torch\.serialization\._get_layout|collections\.(OrderedDict|Counter)|_codecs\.encode"
    r"|builtins\.(set|bytearray|complex)"
)


@dataclass(frozen=True)
class Thawed:
    """A file read inertly: its content, tensors made, and the names it asks for that only code could answer."""

    content: Any
    named: tuple[str, ...]


def read_inert(path: Path) -> Thawed:
    """Return what a file of torch.save (either format), a scripted module or a plain pickle holds; nothing is run.

    WeightsError: it is damaged.
    """
    try:
        met: dict[str, type] = {}
        content, storages = _read_zip(path, met) if zipfile.is_zipfile(path) else _read_stream(path, met)
        return Thawed(thaw(content, storages), foreign(met))
    except (*BROKEN, zipfile.BadZipFile, zlib.error) as error:
        raise unreadable(path, first_line(error)) from error


def named(path: Path) -> tuple[str, ...]:
    """Return the names a file asks for that only code could answer, sorted; those up to where it breaks off."""
    met: dict[str, type] = {}
    with suppress(*BROKEN, zipfile.BadZipFile, zlib.error):
        _ = _read_zip(path, met, False) if zipfile.is_zipfile(path) else _read_stream(path, met, False)
    return foreign(met)


def foreign(met: Iterable[str]) -> tuple[str, ...]:
    """Return, sorted, the names that were met and are not torch's own for tensors."""
    return tuple(sorted(name for name in met if not _SAFE.fullmatch(name) and not _is_dtype(name)))


def _is_dtype(name: str) -> bool:
    return isinstance(vars(torch).get(name.removeprefix("torch.")), torch.dtype)


def _read_zip(path: Path, met: dict[str, type], whole: bool = True) -> tuple[Any, dict[str, bytearray]]:
    with zipfile.ZipFile(path) as archive:
        entry = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = entry.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("it was written on a machine of the other byte order")
        content, reader = unpickle(io.BytesIO(archive.read(entry)), met)
        storages = {key: bytearray(archive.read(f"{root}data/{key}")) for key in reader.stored if whole}
    return content, storages


def _read_stream(path: Path, met: dict[str, type], whole: bool = True) -> tuple[Any, dict[str, bytearray]]:
    with path.open("rb") as stream:
        content, _ = unpickle(stream, met)
        if content != MAGIC:
            return content, {}
        unpickle(stream, met)  # the protocol's version
        unpickle(stream, met)  # the sizes of the machine's numbers
        content, reader = unpickle(stream, met)
        keys, _ = unpickle(stream, met)
        storages = {key: _storage(stream, item_size(reader.stored[key]), path) for key in keys if whole}
    return content, storages


def _storage(stream: IO[bytes], size: int, path: Path) -> bytearray:
    """Return the next storage: a count in 8 bytes, little-endian, and so many numbers of `size` bytes."""
    wanted = int.from_bytes(stream.read(8), "little") * size
    if wanted > path.stat().st_size - stream.tell():
        raise EOFError("the file ends within a tensor")
    return bytearray(stream.read(wanted))
