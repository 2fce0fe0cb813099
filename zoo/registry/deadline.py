"""A deadline for what may take for ever: it runs in a thread of its own, and is waited for as long as that is worth.

Threads are daemons: one that hangs holds up no exit. What they print goes to standard error. An import that calls
`os._exit` ends the process, and one that never lets go of the interpreter stops it: neither can be prevented.
"""

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any, Generic, TypeVar

PATIENCE = 0.5
"""Seconds for all the slow ones together."""
LEAST = 0.1
"""Seconds that each has at least."""
LONGEST = 60.0
"""Seconds after its start in which one that is needed is waited for."""
TELL_AFTER = 1.0
"""Seconds of waiting after which it is said."""

T = TypeVar("T")


class Work(Generic[T]):
    """A function in a thread of its own: begun now, asked for later."""

    def __init__(self, function: Callable[[], T], name: str) -> None:
        self._function = function
        self._result: list[T] = []
        self.started = monotonic()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        _ASIDE.add(threading.get_ident())
        try:
            self._result.append(self._function())
        finally:
            _ASIDE.discard(threading.get_ident())

    def wait(self, seconds: float | None) -> T | None:
        """Return its result, waited for so long at most (None: until it comes); None when there is none yet.

        KeyboardInterrupt: Ctrl-C meanwhile.
        """
        self._thread.join(seconds)
        return self._result[0] if self._result else None


_ASIDE: set[int] = set()
"""The threads whose standard output is standard error."""


class _ByThread:
    """Standard output for everybody but the threads in `_ASIDE`."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr if threading.get_ident() in _ASIDE else self.stream, name)


@contextmanager
def quiet() -> Iterator[None]:
    """While the block runs, no warning is raised or shown, and work in threads does not write to standard output.

    The second goes on for the work that does. Filters that are added meanwhile stay.
    """
    stream = sys.stdout
    if not isinstance(stream, _ByThread):
        sys.stdout = _ByThread(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        try:
            yield
        finally:
            added = [one for one in warnings.filters if one not in before]
            if not _ASIDE:
                sys.stdout = stream
    warnings.filters = [*added, *warnings.filters]


HEAVY = ("torch", "torchvision", "timm", "numpy", "PIL", "torchmetrics", "safetensors", "huggingface_hub")
"""What a run imports itself. Two threads that import such a library at once may each get half of it."""


def let_heavy_imports_end(works: Sequence[Work[T]]) -> None:
    """Wait while work in a thread is in the middle of importing what this thread may import next, up to `LONGEST`."""
    end = monotonic() + LONGEST
    while any(work.wait(0) is None for work in works) and _is_importing_heavy() and monotonic() < end:
        sleep(0.02)


def _is_importing_heavy() -> bool:
    specs = [getattr(sys.modules.get(name), "__spec__", None) for name in HEAVY]
    return any(getattr(spec, "_initializing", False) for spec in specs)


def wait_for(work: Work[T], who: str) -> T | None:
    """Return the result of work that is needed, waited for until `LONGEST` after its start; None: not even then."""
    left = work.started + LONGEST - monotonic()
    found = work.wait(max(0.0, min(TELL_AFTER, left)))
    if found is None and left > TELL_AFTER:
        print(f"waiting for the plugin {who}, up to {left:.0f} s: Ctrl-C stops", file=sys.stderr, flush=True)
        found = work.wait(left - TELL_AFTER)
    return found
