"""log.txt: everything a run says, with the time; what was said before the folder was opened included."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path

LOGGER = logging.getLogger("zoo")
_MANY = 100_000


def tell(label: str, text: str) -> None:
    """Log a line of a run: what it is about, and what there is to know."""
    LOGGER.info("%-12s %s", label, text)


class _LogFile(logging.FileHandler):
    """A file whose disk may fill up: the run says so itself, where it matters, and its log just ends."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class RunLog(MemoryHandler):
    """Keeps what is logged under `zoo` until `open` names the file, then writes it there."""

    def __init__(self) -> None:
        super().__init__(_MANY, flushLevel=logging.CRITICAL + 1)

    def open(self, path: Path) -> None:
        """Write what was kept, and all that follows, to the end of the file at `path`."""
        target = _LogFile(path, encoding="utf-8")
        target.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self.setTarget(target)
        self.flush()
        self.capacity = 1

    def close(self) -> None:
        """Flush and close the file."""
        target = self.target
        super().close()
        if target is not None:
            target.close()


@contextmanager
def run_log() -> Iterator[RunLog]:
    """Collect what is logged under `zoo` for the length of a run, and why it ended when it fails."""
    handler = RunLog()
    level = LOGGER.level
    LOGGER.setLevel(level if level == logging.DEBUG else logging.INFO)
    LOGGER.addHandler(handler)
    try:
        yield handler
    except BaseException as error:
        reason = str(error) or type(error).__name__
        handler.emit(logging.makeLogRecord({"msg": "%-12s %s", "args": ("ended", reason), "levelno": logging.INFO}))
        raise
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        handler.close()
