"""Downloads, kept: one process fetches a file, the others wait for it; what lies here under its name is whole.

CACHE/downloads/SHA256/NAME   beside it NAME.part (a download cut short), NAME.lock, and NAME.json (what was verified)
"""

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from zoo.errors import WeightsError
from zoo.files import sha256 as digest_of
from zoo.files import sync_file, sync_folder, write_text

Download = Callable[[Path], None]
"""Completes the file at a path: what lies there already is the beginning of it."""
_HINT = "set XDG_CACHE_HOME to a folder with room that you may write to"


@dataclass(frozen=True)
class Cached:
    """A file of the cache and the SHA-256 of its bytes, in lower-case hex."""

    path: Path
    sha256: str


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path` among all processes and threads, waiting for it; one that dies lets it go.

    OSError: the lock's file, NAME.lock beside it, cannot be made.
    """
    with FileLock(f"{path}.lock"):
        yield


def fetched(cache: Path, name: str, sha256: str, download: Download) -> Cached:
    """Return the file `name` whose SHA-256 begins with `sha256` (lower-case hex), downloaded unless it lies in `cache`.

    Of processes that ask for one file the first downloads it and the others wait. Bytes that are wrong are removed;
    if an older download was continued, it is then done once more from its start. What is whole is not hashed again as
    long as its size and time stay. WeightsError: wrong bytes, no room, no right to write, or what `download` raises.
    """
    path = place_of(cache, name, sha256)
    try:
        if known := _known(path, sha256):
            return known  # without the lock: the cache may be read-only
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            return _known(path, sha256) or _verified(path, sha256) or _fetch(path, sha256, download)
    except OSError as error:
        raise _unwritable(path, error) from error


def place_of(cache: Path, name: str, sha256: str) -> Path:
    """Return where the file `name` lies in `cache` once it is whole."""
    return cache / "downloads" / sha256 / name


def part_of(path: Path) -> Path:
    """Return where the bytes of `path` are gathered until they are whole."""
    return path.with_name(f"{path.name}.part")


def _known(path: Path, sha256: str) -> Cached | None:
    """Return the file when it is as it was when its bytes were last hashed."""
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        same = isinstance(note, dict) and note.get("stamp") == _stamp(path)
    except (OSError, ValueError):
        return None
    digest = note.get("sha256") if same else None
    return Cached(path, digest) if isinstance(digest, str) and digest.startswith(sha256) else None


def _verified(path: Path, sha256: str) -> Cached | None:
    """Return the file after hashing it. One with other bytes is damaged: it is removed."""
    if not path.is_file():
        return None
    digest = digest_of(path)
    if not digest.startswith(sha256):
        path.unlink()
        return None
    return _noted(path, digest)


def _fetch(path: Path, sha256: str, download: Download) -> Cached:
    part = part_of(path)
    continued = part.exists()
    download(part)
    digest = digest_of(part)
    if not digest.startswith(sha256) and continued:  # its beginning may be of another file
        part.unlink()
        download(part)
        digest = digest_of(part)
    if not digest.startswith(sha256):
        raise _wrong(part, path.name, digest, sha256)
    sync_file(part)
    part.replace(path)
    sync_folder(path.parent)
    return _noted(path, digest)


def _wrong(part: Path, name: str, digest: str, sha256: str) -> WeightsError:
    """Remove the bytes and say whose they are not."""
    with part.open("rb") as file:
        page = file.read(64).lstrip().startswith(b"<")
    part.unlink()
    wanted = sha256 if len(sha256) == len(digest) else f"one that begins with {sha256}"
    hint = "they were another file's, or the file was replaced: check the address and the sha256"
    if page:
        hint = "a web page came instead of the file: open the address in a browser"
    return WeightsError(f"{name} came with sha256 {digest}, not {wanted}: removed", hint=hint)


def _noted(path: Path, digest: str) -> Cached:
    write_text(_note(path), json.dumps({"sha256": digest, "stamp": _stamp(path)}))
    return Cached(path, digest)


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _unwritable(path: Path, error: OSError) -> WeightsError:
    what = "there is no room for it" if error.errno == errno.ENOSPC else error.strerror or str(error)
    return WeightsError(f"{path.name} cannot be kept in the cache: {what}", where=str(path.parent), hint=_HINT)
