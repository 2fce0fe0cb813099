"""Work that goes on in a thread beside the one that trains, and whose failure is not lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread

from zoo.errors import RunError, ZooError


class _Work(Thread):
    """A function in a thread. It takes no lock that who waits takes too: Ctrl-C could leave that locked for good."""

    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__(name="zoo-writing", daemon=False)
        self.error: BaseException | None = None
        self.is_done = False
        self._function = function
        self._going_on = Lock()
        self._going_on.acquire()

    def run(self) -> None:
        """Call the function."""
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001  it is raised again by who waits
            self.error = error
        finally:
            del self._function  # and all that it holds
            self.is_done = True
            self._going_on.release()

    def wait(self) -> None:
        """Return when it is done."""
        if not self.is_done:
            self._going_on.acquire()
        self.join()


class Background:
    """One piece of work at a time. What it raises is raised again by the next call that waits for it.

    The thread ends with its work, and Python does not exit before that.
    """

    def __init__(self) -> None:
        self._work: _Work | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the work goes on."""
        return self._work is not None and not self._work.is_done

    def start(self, work: Callable[[], None]) -> None:
        """Wait for the work before, begin `work`, and return at once. Raises what the work before raised."""
        self.wait()
        started = _Work(work)
        started.start()
        self._work = started

    def wait(self) -> None:
        """Return when nothing goes on. Raises what the work raised, once.

        KeyboardInterrupt: the work goes on, and can be waited for again.
        """
        if self._work is None:
            return
        self._work.wait()
        error, self._work = self._work.error, None
        if error is not None:
            raise error


@contextmanager
def followed_by(last: Callable[[], None]) -> Iterator[None]:
    """Call `last` when the block ends, however it ends. RunError: the block and `last` were both refused; it says both.

    Where the block fails in another way, what `last` raises has that as its context.
    """
    try:
        yield
    except ZooError as error:
        try:
            last()
        except ZooError as other:
            raise RunError.of([*error.problems, *other.problems]) from error
        raise
    except BaseException:
        last()
        raise
    last()
