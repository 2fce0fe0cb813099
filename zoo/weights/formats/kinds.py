"""Which format a file is in: its first bytes say so, whatever its name is."""

import zipfile
from pathlib import Path
from typing import Literal

from zoo.weights.formats.damage import unreadable

Kind = Literal["safetensors", "index", "torch", "torchscript", "npz", "pickle"]
PICKLED = (".pth", ".pt", ".bin", ".tar", ".ckpt")
INDEX = ".index.json"
SUFFIXES = (".safetensors", *PICKLED, ".npz", INDEX)
HEAD = 512  # bytes looked at
LONGEST = 100_000_000  # bytes of a safetensors header, the format's own limit
_NOT_ONE = {
    b"<!doctype": "it is a web page: whoever served it sent an error or asked for a login",
    b"<html": "it is a web page: whoever served it sent an error or asked for a login",
    b"version https://git-lfs": "it is a pointer of git-lfs, not the file: run `git lfs pull`",
}


def find_kind(path: Path) -> Kind | None:
    """Return the format by the file's first bytes, by its suffix where they say nothing, None when neither does.

    WeightsError: a web page or a git-lfs pointer under a checkpoint's name, or a zip archive without its end or without
    a checkpoint in it. OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    for begins, why in _NOT_ONE.items():
        if head[: len(begins)].lower() == begins:
            raise unreadable(path, why)
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if _is_safetensors(head):
        return "safetensors"
    return "pickle" if _is_pickle(head) else _kind_by_name(path)


def _kind_by_name(path: Path) -> Kind | None:
    if path.name.endswith(INDEX):
        return "index"
    if path.suffix == ".safetensors":
        return "safetensors"
    return "pickle" if path.suffix in (*PICKLED, ".npz") else None


def _is_safetensors(head: bytes) -> bool:
    return 2 <= int.from_bytes(head[:8], "little") <= LONGEST and head[8:9] == b"{"


def _is_pickle(head: bytes) -> bool:
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _kind_of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    # The library lets a damaged directory's own errors through.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, LookupError):
        raise unreadable(path, "the zip archive has no end") from None
    if any(name.endswith("/data.pkl") for name in names):
        return "torchscript" if any(name.split("/", 1)[-1].startswith("code/") for name in names) else "torch"
    if any(name.endswith(".npy") for name in names):
        return "npz"
    raise unreadable(path, "it is a zip archive without a checkpoint", "unpack it and name a file in it")
