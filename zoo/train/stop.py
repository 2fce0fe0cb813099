"""Asking a run to stop: SIGINT is Ctrl-C; SIGTERM comes from Slurm, Kubernetes and machines that are taken back."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from types import FrameType


class StopRequest:
    """The first signal asks for a stop after the step; a second Ctrl-C, `patience` seconds later, stops at once.

    A launcher passes a signal on that its processes have had themselves: that is no second one.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self.signal: int | None = None
        """The number of the signal that asked; None when none has."""
        self._patience = patience
        self._since = 0.0

    @property
    def asked(self) -> bool:
        """Whether a stop is asked for."""
        return self.signal is not None

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Take both signals while the block runs; only in the main thread, elsewhere its owner handles signals."""
        with ExitStack() as handlers:
            for number in (signal.SIGINT, signal.SIGTERM):
                try:
                    before = signal.signal(number, self._ask)
                except ValueError:  # not the main thread
                    break
                handlers.callback(signal.signal, number, before)
            yield

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.signal, self._since = number, monotonic()
        elif number == signal.SIGINT and monotonic() - self._since >= self._patience:
            raise KeyboardInterrupt
