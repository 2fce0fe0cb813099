"""What is said of a file that cannot be read."""

from pathlib import Path

from zoo.errors import WeightsError

DAMAGED = "the file is incomplete or damaged: download or copy it again"


def unreadable(path: Path, why: str, hint: str = DAMAGED) -> WeightsError:
    """Return the refusal of a file that cannot be read, with the reason."""
    return WeightsError(f"{path.name} cannot be read: {why}", where=str(path), hint=hint)


def first_line(error: BaseException) -> str:
    """Return what an error says in its first line, or the name of its type when it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
