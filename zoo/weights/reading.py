"""Read a checkpoint's tensors without ever running what is in the file."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.errors import WeightsError
from zoo.weights.branches import require_answered, take_branch
from zoo.weights.containers import Asked, unwrap
from zoo.weights.digests import digest_of
from zoo.weights.formats.damage import DAMAGED, unreadable
from zoo.weights.formats.kinds import INDEX, PICKLED, SUFFIXES, find_kind
from zoo.weights.formats.npz import read_npz
from zoo.weights.formats.pickled import read_inert
from zoo.weights.formats.sharded import read_sharded, shard_paths
from zoo.weights.formats.torch import read_torch
from zoo.weights.formats.zipped import require_no_bomb, require_sound
from zoo.weights.paths import cannot_read, require_file, stamp

__all__ = ["DAMAGED", "PICKLED", "SUFFIXES", "Checkpoint", "read_checkpoint", "read_tensors", "require_file"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read: its tensors, all on the CPU, and the SHA-256 of the bytes they came from.

    `inside` is the path of containers around the state dict ("state_dict.model"), empty when there was none.
    `others` names what lay between the tensors and is none. `asked` is what of `weights.which` the containers did not
    answer, `which` what it chose in all. `outside` are the keys beside the chosen branch, with their elements.
    `files` are the file and, of a sharded set, its shards.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    inside: str = ""
    others: tuple[str, ...] = ()
    stamps: tuple[tuple[int, ...], ...] = ()
    files: tuple[Path, ...] = ()
    asked: Asked = ()
    which: str = ""
    outside: Mapping[str, int] | None = None

    def require_unchanged(self) -> None:
        """WeightsError when the file was written to since it was hashed: its tensors may be mapped, not yet read."""
        for path, before in zip(self.files, self.stamps, strict=True):
            if stamp(path) != before:
                raise WeightsError(
                    f"{path.name} changed while it was read", where=str(path), hint="wait until it is written"
                )


def read_tensors(path: Path | str, sha256: str | None = None, which: str | None = None) -> Mapping[str, Tensor]:
    """Return the tensors of a checkpoint, on the CPU, in the file's order, whatever device they were saved on.

    Read are safetensors, sets with an index, torch's two formats, scripted modules (their tensors), and .npz.
    Containers around the state dict (`state_dict`, `model`, …) are unwrapped. `sha256` is lower-case hex; of a sharded
    set it is that of `set_digest`. `which` chooses where there are several sets, as in `WeightsTable`. WeightsError: no
    such file, unreadable, damaged, another sha256, asks for code to be run, or holds no single set of tensors.
    """
    checkpoint = read_checkpoint(Path(path), sha256, which)
    tensors, _, left = take_branch(checkpoint.tensors, (), checkpoint.asked, checkpoint.path)
    require_answered(left, checkpoint.inside, checkpoint.tensors, checkpoint.path)
    return tensors


def read_checkpoint(path: Path, sha256: str | None = None, which: str | None = None) -> Checkpoint:
    """Return the state dict that containers lead to, with the file's SHA-256; branches within it are not chosen yet.

    WeightsError as for `read_tensors`.
    """
    require_file(path)
    files, stamps, digest = _hash(path)
    if sha256 is not None and digest != sha256:
        raise WeightsError(
            f"{path.name} has sha256 {digest}, not {sha256}",
            where=str(path),
            hint="download it again, or correct the sha256 if the file is the one you mean",
        )
    found = unwrap(read_content(path, checked=sha256 is not None), path, which)
    checkpoint = Checkpoint(path, digest, found.tensors, found.inside, found.others, stamps, files, found.asked, "")
    checkpoint.require_unchanged()
    return checkpoint


def set_digest(digests: Sequence[str]) -> str:
    """Return the SHA-256 of a sharded set: of the hex digests of its index and of its shards, sorted by file name.

    Each digest is a line ("…\\n"), so `sha256sum INDEX SHARDS | cut -c1-64 | sha256sum` gives the same.
    """
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def read_content(path: Path, checked: bool) -> Any:
    """Return all that a file holds, tensors on the CPU; `checked`: its sha256 is known to be right.

    WeightsError: damaged, larger unpacked than any checkpoint, or it asks for code to be run.
    """
    try:
        kind = find_kind(path)
        if kind == "safetensors":
            return _read_safetensors(path)
        if kind == "index":
            return read_sharded(path, lambda shard: read_content(shard, checked))
        return _read_torch(path) if kind == "pickle" else _read_zip(path, str(kind), checked)
    except OSError as error:
        raise cannot_read(path, error) from error


def _read_torch(path: Path) -> Any:
    return read_torch(path, mapped=False)


def _read_zip(path: Path, kind: str, checked: bool) -> Any:
    stored = require_no_bomb(path)
    if not checked:
        require_sound(path)
    if kind == "npz":
        return read_npz(path)
    # What is packed cannot be mapped: torch would take the packed bytes for numbers.
    return (
        read_inert(path).content
        if kind == "torchscript"
        else read_torch(path, mapped=stored and path.suffix != ".safetensors")
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise unreadable(path, str(error)) from error


def _hash(path: Path) -> tuple[tuple[Path, ...], tuple[tuple[int, ...], ...], str]:
    """Return the files of a checkpoint, what tells that one changes, and the SHA-256 of all."""
    before = stamp(path)
    shards = shard_paths(path) if path.name.endswith(INDEX) else ()
    for shard in shards:
        require_file(shard)
    stamps = (before, *(stamp(shard) for shard in shards))
    digests = [_digest(file) for file in (path, *shards)]
    return (path, *shards), stamps, set_digest(digests) if shards else digests[0]


def _digest(path: Path) -> str:
    try:
        return digest_of(path)
    except OSError as error:
        raise cannot_read(path, error) from error
