"""Read a checkpoint's tensors without ever running what is in the file."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.errors import WeightsError, nearest
from zoo.weights.containers import unwrap

PICKLED = (".pth", ".pt", ".bin", ".tar", ".ckpt")
SUFFIXES = (".safetensors", *PICKLED)
DAMAGED = "the file is incomplete or damaged: download or copy it again"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read: its tensors, all on the CPU, and the SHA-256 of the bytes they came from.

    `inside` is the path of containers around the state dict ("state_dict.model"), empty when there was none.
    `others` names what lay between the tensors and is none.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    inside: str = ""
    others: tuple[str, ...] = ()
    stamp: tuple[int, ...] = ()

    def require_unchanged(self) -> None:
        """WeightsError when the file was written to since it was hashed: its tensors may be mapped, not yet read."""
        if _stamp(self.path) != self.stamp:
            raise WeightsError(
                f"{self.path.name} changed while it was read", where=str(self.path), hint="wait until it is written"
            )


def read_tensors(path: Path | str, sha256: str | None = None) -> Mapping[str, Tensor]:
    """Return the tensors of a .safetensors, .pth, .pt, .bin, .tar or .ckpt file, on the CPU, in the file's order.

    Containers around the state dict (`state_dict`, `model`, …) are unwrapped. `sha256` is lower-case hex. WeightsError:
    no such file, unreadable, damaged, another sha256, asks for code to be run, or holds no single set of tensors.
    """
    return read_checkpoint(Path(path), sha256).tensors


def read_checkpoint(path: Path, sha256: str | None = None) -> Checkpoint:
    """Return what `read_tensors` reads, with the file's SHA-256. Same errors."""
    require_file(path)
    stamp = _stamp(path)
    digest = _hash(path)
    if sha256 is not None and digest != sha256:
        raise WeightsError(
            f"{path.name} has sha256 {digest}, not {sha256}",
            where=str(path),
            hint="download it again, or correct the sha256 if the file is the one you mean",
        )
    inside, tensors, others = unwrap(_parse(path, checked=sha256 is not None), path)
    checkpoint = Checkpoint(path, digest, tensors, inside, others, stamp)
    checkpoint.require_unchanged()
    return checkpoint


def require_file(path: Path) -> None:
    """WeightsError unless `path` is a file with a suffix that zoo reads and something in it."""
    if path.is_dir():
        raise WeightsError(f"{path} is a folder, not a checkpoint", hint=_mend_folder(path))
    if not path.is_file():
        raise WeightsError(f"there is no file {path}", hint=_mend_missing(path))
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path.name} is no kind of checkpoint that zoo reads", str(path), _listed(SUFFIXES))
    if path.stat().st_size == 0:
        raise WeightsError(f"{path.name} is empty (0 bytes)", where=str(path), hint=DAMAGED)


def _mend_folder(path: Path) -> str:
    inside = [item.name for item in path.iterdir() if item.suffix in SUFFIXES]
    return f"name a file in it; {nearest('', inside)}" if inside else "name a file; there is no checkpoint in it"


def _mend_missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    return nearest(path.name, [item.name for item in path.parent.iterdir() if item.suffix in SUFFIXES])


def _listed(suffixes: tuple[str, ...]) -> str:
    return f"one of: {', '.join(suffixes)}"


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path.name} cannot be read: {error.strerror}", where=str(path)) from error


def _parse(path: Path, checked: bool) -> Any:
    if path.suffix == ".safetensors":
        return _parse_safetensors(path)
    zipped = _is_zip(path)
    if zipped and not checked:
        _require_crc(path)
    return _unpickle(path, zipped)


def _parse_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise WeightsError(f"{path.name} cannot be read: {error}", where=str(path), hint=DAMAGED) from error


def _is_zip(path: Path) -> bool:
    """Tell torch's zip format from its older one; WeightsError for a zip file whose end is missing."""
    with path.open("rb") as file:
        begins = file.read(4) == b"PK\x03\x04"
    if begins and not zipfile.is_zipfile(path):
        raise WeightsError(f"{path.name} cannot be read: the zip archive has no end", where=str(path), hint=DAMAGED)
    return begins


def _require_crc(path: Path) -> None:
    # torch.load does not compare the archive's checksums: a flipped bit would become a weight.
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except zipfile.BadZipFile as error:
        bad = str(error)
    if bad is not None:
        raise WeightsError(
            f"{path.name} is damaged: the checksum of {bad!r} in it is wrong",
            where=str(path),
            hint="download it again; if it was saved without checksums, give its sha256",
        )


def _unpickle(path: Path, zipped: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise _refused(path, zipped, error) from error
    # A damaged stream of the older format fails wherever the next byte leads it.
    except (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path.name} cannot be read: {reason}", where=str(path), hint=DAMAGED) from error


def _refused(path: Path, zipped: bool, error: pickle.UnpicklingError) -> WeightsError:
    names = _globals(path, zipped, str(error))
    if not names:
        reason = str(error).splitlines()[0].split(". ")[0]
        return WeightsError(f"{path.name} cannot be read: {reason}", where=str(path), hint=DAMAGED)
    return WeightsError(
        f"{path.name} asks for code to be run: {', '.join(names)}",
        where=str(path),
        hint="have its author save the tensors alone: torch.save(model.state_dict(), path), or safetensors",
    )


def _globals(path: Path, zipped: bool, message: str) -> list[str]:
    if zipped:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    # The older format stops at the first one.
    return re.findall(r"GLOBAL (\w+(?:\.\w+)+) was not an allowed global", message)
