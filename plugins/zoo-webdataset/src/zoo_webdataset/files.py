"""Parts of files, read without a position: by any thread of any process, from few open files."""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zoo

MOST_OPEN = 32
"""Files that a thread keeps open; of more shards the one used longest ago is closed."""


@dataclass(frozen=True)
class Shard:
    """A shard's path, and its size and time when it was indexed."""

    path: Path
    size: int
    time: int

    @classmethod
    def of(cls, path: Path) -> "Shard":
        """Return the shard as it is now."""
        found = path.stat()
        return cls(path.absolute(), found.st_size, found.st_mtime_ns)


class Files:
    """Shards, opened when something is first read of them. A pickled copy opens its own."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"shards": self.shards}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["shards"])  # type: ignore[misc]

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Return so many bytes of the shard with that number. OSError: they are not there.

        ZooError: the shard is another file than was indexed.
        """
        handle = self._open(shard)
        found = b""
        while len(found) < size and (more := os.pread(handle, size - len(found), offset + len(found))):
            found += more
        if len(found) < size:
            raise OSError(f"{self.shards[shard].path} ends before byte {offset + size:,}")
        return found

    def _open(self, number: int) -> int:
        opened: OrderedDict[int, int] = self._local.__dict__.setdefault("opened", OrderedDict())
        if number not in opened:
            opened[number] = self._open_checked(self.shards[number])
            if len(opened) > MOST_OPEN:
                os.close(opened.popitem(last=False)[1])
        opened.move_to_end(number)
        return opened[number]

    def _open_checked(self, shard: Shard) -> int:
        handle = os.open(shard.path, os.O_RDONLY | os.O_CLOEXEC)
        now = os.fstat(handle)
        if (now.st_size, now.st_mtime_ns) != (shard.size, shard.time):
            os.close(handle)
            what = "the shard was changed after it was indexed"
            raise zoo.ZooError(what, where=str(shard.path), hint="start the run anew")
        return handle
