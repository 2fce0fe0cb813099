"""Whether a path leads to a file that may be read as a checkpoint."""

import errno
import os
import stat
from pathlib import Path

from zoo.errors import WeightsError, nearest
from zoo.weights.formats.damage import DAMAGED
from zoo.weights.formats.kinds import SUFFIXES, find_kind

_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_file(path: Path) -> None:
    """WeightsError unless `path` is a plain file with something in it, of a kind that zoo reads."""
    status = _status(path)
    if stat.S_ISDIR(status.st_mode):
        raise WeightsError(f"{path} is a folder, not a checkpoint", hint=_mend_folder(path))
    special = _SPECIAL.get(stat.S_IFMT(status.st_mode))
    if special is not None:
        raise WeightsError(f"{path} is {special}, not a file", hint="save the checkpoint to a file and name that")
    if status.st_size == 0:
        raise WeightsError(f"{path.name} is empty (0 bytes)", where=str(path), hint=DAMAGED)
    _require_kind(path)


def _require_kind(path: Path) -> None:
    if path.name.endswith(SUFFIXES):
        return
    try:
        kind = find_kind(path)
    except OSError as error:
        raise cannot_read(path, error) from error
    if kind is None:
        raise WeightsError(
            f"{path.name} is no kind of checkpoint that zoo reads", str(path), f"one of: {', '.join(SUFFIXES)}"
        )


def cannot_read(path: Path, error: OSError) -> WeightsError:
    """Return the refusal of a file that the system does not let us read."""
    return WeightsError(f"{path.name} cannot be read: {error.strerror}", where=str(path))


def stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written to: device, inode, size, time in nanoseconds."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise WeightsError(f"{path} is a loop of symbolic links", hint="name the file itself") from None
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise cannot_read(path, error) from error
        if path.is_symlink():
            hint = "link it anew, or name the file itself"
            raise WeightsError(f"{path} is a link to {path.readlink()}, which is not there", hint=hint) from None
        raise WeightsError(f"there is no file {path}", hint=_mend_missing(path)) from None


def _mend_folder(path: Path) -> str:
    try:
        inside = [item.name for item in path.iterdir() if item.name.endswith(SUFFIXES)]
    except OSError as error:
        return f"name a file; the folder cannot be read: {error.strerror}"
    return f"name a file in it; {nearest('', inside)}" if inside else "name a file; there is no checkpoint in it"


def _mend_missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    return nearest(path.name, [item.name for item in path.parent.iterdir() if item.name.endswith(SUFFIXES)])
