"""One process at a time writes into a run's folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from io import FileIO
from pathlib import Path

from zoo.errors import RunError

try:
    import fcntl
except ImportError:  # Windows: runs are not locked there
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
"""The file in a run's folder that is locked, and says by whom."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while the block runs. It ends with the process, however that ends.

    RunError: another process holds it, or the folder cannot be written.
    """
    with _open(folder) as file:
        _take(file, folder)
        file.truncate(0)
        with suppress(OSError):  # a full disk: the lock holds without saying by whom
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%F %T}".encode())
        yield
        file.truncate(0)


def _open(folder: Path) -> FileIO:
    try:
        return (folder / NAME).open("ab+", buffering=0)
    except OSError as error:
        raise cannot_write(folder, NAME, error) from error


def cannot_write(folder: Path, name: str, error: OSError) -> RunError:
    """Return the refusal of a run's folder in which the file `name` cannot be written."""
    hint = "make room or mend this, or choose another folder with --out"
    return RunError(f"cannot write {name}: {error.strerror}", where=str(folder), hint=hint)


def check_free(folder: Path) -> None:
    """Refuse a folder in which a run is going on. RunError says who runs there."""
    try:
        with (folder / NAME).open("rb+", buffering=0) as file:
            _take(file, folder)
    except OSError:  # no run was here, or the folder cannot be written, which is refused when it is opened
        pass


def _take(file: FileIO, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        # A record lock: unlike flock's it is not passed on to loader processes, which may outlive a killed run.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        who = file.read().decode("utf-8", "replace") or "another process"
        what = f"a run is going on in {str(folder)!r}: {who}"
        raise RunError(what, hint="wait for it or stop it, or choose another folder with --out") from error
    except OSError:  # a file system without locks
        return
