"""What a zoo process asks of Python's collector, of the C library, and of the process that makes others like it."""

import ctypes
import gc
import multiprocessing
import multiprocessing.forkserver
import os
import sys

GARBAGE = 50_000
"""New objects after which Python looks for cycles; at its own 700 that takes 1.4 s of a short run."""

KEEP_FREED = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 64 << 20)}
"""glibc's mallopt(3), as name: (number, value). By default a large tensor is mapped when it is made and unmapped when
it is freed, and every page of the next one is a fault: 9 to 16 % of a CPU step of ResNet-50. Freed memory is used again
instead, at the same resident peak."""


def settle() -> None:
    """Set both, before torch is imported. What the environment says of the C library's memory (`MALLOC_…`) holds."""
    gc.set_threshold(GARBAGE)
    told = any(name.startswith("MALLOC_") or "glibc.malloc" in value for name, value in os.environ.items())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None and not told:  # musl has none
        for number, value in KEEP_FREED.values():
            mallopt(number, value)


def start_method() -> str:
    """Return how processes that train are started: from a server that has the imports, where there is one."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def preload() -> None:
    """Begin to import what a process that trains needs, in a server that will make such processes. Does not wait."""
    if start_method() == "forkserver":
        multiprocessing.set_forkserver_preload(["zoo.run"])
        multiprocessing.forkserver.ensure_running()
