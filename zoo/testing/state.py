"""The state of a process that a plugin might change, and what it may not look at."""

import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

LOOKING = ("gc.get_objects", "gc.get_referrers")
"""Audit events of whoever searches the process for objects that it was not given."""


def world() -> dict[str, Any]:
    """Return what every part of a process shares."""
    return {
        "os.environ": dict(os.environ),
        "the working directory": str(Path.cwd()),
        "sys.path": list(sys.path),
        "sys.argv": list(sys.argv),
        "the signal handlers": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
        "the warnings' filters": list(warnings.filters),
        "Python's random state": hash(random.getstate()),
        "NumPy's random state": hash(str(np.random.get_state())),
        **torch_world(),
    }


def torch_world() -> dict[str, Any]:
    """Return torch's settings of a whole process."""
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": str(torch.get_default_device()),
        "torch's number of threads": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's matmul precision": torch.get_float32_matmul_precision(),
        "cudnn's benchmark mode": torch.backends.cudnn.benchmark,
    }


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what is not as it was."""
    return [name for name, value in before.items() if after[name] != value]


class _Watch:
    """What one thread does while it is watched. An audit hook cannot be removed, so there is one for good."""

    def __init__(self) -> None:
        self.thread: int | None = None
        self.seen: list[str] = []
        self.forbidden: tuple[Path, ...] = ()

    def hear(self, event: str, given: tuple[Any, ...]) -> None:
        """Note what may not be done."""
        if self.thread != threading.get_ident():
            return
        if event in LOOKING:
            self.seen.append(event)
        elif event == "open" and isinstance(given[0], str | Path) and Path(given[0]).absolute() in self.forbidden:
            self.seen.append(f"open {Path(given[0]).name}")


_watch = _Watch()


class Tripwire(list[str]):
    """The command line, which notes that it was looked at."""

    seen = False

    def __getitem__(self, place: Any) -> Any:
        """Note it, and answer."""
        self.seen = True
        return super().__getitem__(place)

    def __iter__(self) -> Iterator[str]:
        """Note it, and answer."""
        self.seen = True
        return super().__iter__()


@contextmanager
def watched(*files: Path) -> Iterator[list[str]]:
    """Note what the block looks at that it was not given: these files, the command line, all objects."""
    if _watch.thread is None and not _watch.forbidden:
        sys.addaudithook(_watch.hear)
    before, sys.argv = sys.argv, Tripwire(sys.argv)
    _watch.thread, _watch.seen, _watch.forbidden = threading.get_ident(), [], files
    seen = _watch.seen
    try:
        yield seen
    finally:
        _watch.thread = None
        if isinstance(sys.argv, Tripwire) and sys.argv.seen:
            seen.append("sys.argv")
        sys.argv = before


@contextmanager
def restored() -> Iterator[None]:
    """Put back what the block changed of the process: the next part is not to suffer for it."""
    environment, folder, path = dict(os.environ), Path.cwd(), list(sys.path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    dtype, threads, deterministic = (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )
    precision, benchmark, gradients = (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.is_grad_enabled(),
    )
    device = str(torch.get_default_device())
    drawn = random.getstate(), np.random.get_state()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ.update(environment)
            os.chdir(folder)
            sys.path[:] = path
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():
                    signal.signal(number, handler)
            torch.set_default_dtype(dtype)
            if str(torch.get_default_device()) != device:
                torch.set_default_device(None if device == "cpu" else device)
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)
            torch.set_float32_matmul_precision(precision)
            torch.backends.cudnn.benchmark = benchmark
            torch.set_grad_enabled(gradients)
            random.setstate(drawn[0])
            np.random.set_state(drawn[1])
