"""What a check is, what it is given, and how it says that a part is not what its kind promises."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.registry.parts import Options, Part


class ConformanceError(AssertionError):
    """A part is not what its kind promises: what is expected, what came, and why it matters."""

    def __init__(self, check: str, expected: str, came: str, why: str) -> None:
        super().__init__(f"{check}\n  expected: {expected}\n  came:     {came}\n  because:  {why}")
        self.check, self.expected, self.came, self.why = check, expected, came, why


class NotTriedError(Exception):
    """A check that says nothing of a part, and the reason: the part has no such thing, or what it needs is not here."""


class Unlike(Exception):  # noqa: N818  not an error of anyone's program: what a check found
    """What is expected and what came; the check adds its name and why it matters."""

    def __init__(self, expected: str, came: object) -> None:
        super().__init__(expected, came)
        self.expected, self.came = expected, str(came)


@dataclass(frozen=True)
class Trial:
    """One part with options to build it with, and an empty folder for whatever is written."""

    part: Part
    options: Options
    folder: Path

    def build(self, *given: Any) -> Any:
        """Build the part: its builder gets its options, then what its kind hands over."""
        return self.part.builder()(self.options, *given)


@dataclass(frozen=True)
class Check:
    """One thing that every part of a kind must hold to. `slow` ones start processes."""

    name: str
    expected: str
    why: str
    run: Callable[[Trial], None]
    slow: bool = False

    def __call__(self, trial: Trial) -> None:
        """Try a part. ConformanceError: it does not hold to this. NotTriedError: there is nothing to hold to."""
        try:
            self.run(trial)
        except Unlike as unlike:
            raise ConformanceError(self.name, unlike.expected, unlike.came, self.why) from None
        except (ConformanceError, NotTriedError):
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a part may raise anything, SystemExit included
            raise ConformanceError(self.name, self.expected, f"{type(error).__name__}: {error}", self.why) from error


def check(why: str, *, slow: bool = False) -> Callable[[Callable[[Trial], None]], Check]:
    """Make a check of a function: its name says what is tried, its docstring what is expected."""

    def make(function: Callable[[Trial], None]) -> Check:
        expected = (function.__doc__ or "").strip().splitlines()[0].rstrip(".")
        return Check(function.__name__.replace("_", " "), expected, why, function, slow)

    return make


def expect(holds: bool, expected: str, came: object) -> None:
    """Go on when it holds. Unlike: it does not."""
    if not holds:
        raise Unlike(expected, came)
