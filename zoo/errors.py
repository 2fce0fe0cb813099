"""What zoo refuses, and how it says so: what, where, how to mend it.

Two tiers of failure: a `ZooError` is the user's to mend (a few lines, exit status 2); any other exception is a fault of
zoo or of a plugin (a traceback, exit status 1).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from signal import SIGINT

EXIT_FAULT = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what was refused (with its value), where (file, key), and how to mend it."""

    what: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  where: {self.where}"] if self.where else []
        lines += [f"  mend:  {self.hint}"] if self.hint else []
        return "\n".join(lines)


class ZooError(Exception):
    """Something the user can mend. `str()` gives the lines that the command prints."""

    exit_code = EXIT_REFUSED

    def __init__(self, what: str, where: str = "", hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.problems: tuple[Problem, ...] = (Problem(what, where, hint),)

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> "ZooError":
        """Return one error that holds all of `problems` (at least one), in their order."""
        listed = tuple(problems)
        error = cls(listed[0].what, listed[0].where, listed[0].hint)
        error.problems = listed
        return error

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class RecipeError(ZooError):
    """A recipe that does not say what to do: every problem found in it, at once."""


class PluginError(ZooError):
    """A plugin that a recipe needs is broken, blocked, or clashes with another."""


class WeightsError(ZooError):
    """Weights that cannot be had, read, or wholly accounted for."""


class DataError(ZooError):
    """Images or labels that cannot be used as they are."""


class DeviceError(ZooError):
    """A device, precision or strategy that is not to be had here."""


class RunError(ZooError):
    """A run folder that cannot be used, or a run that had to stop."""


class Interrupted(ZooError):  # noqa: N818  it ends a run as asked, it is no error
    """A signal stopped the run, SIGINT unless another `number` is given; a checkpoint was written."""

    def __init__(self, what: str, where: str = "", hint: str = "", number: int = SIGINT) -> None:
        super().__init__(what, where, hint)
        self.exit_code = 128 + number


def nearest(word: str, known: Iterable[str], most: int = 3) -> str:
    """Return a hint that names the known words nearest to `word`, or the first few when none is near."""
    names = sorted(known)
    close = get_close_matches(word, names, n=most, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    if not names:
        return "there is none to choose from"
    shown = ", ".join(names[:12])
    return f"one of: {shown}" + (f", … ({len(names)} in all)" if len(names) > 12 else "")
