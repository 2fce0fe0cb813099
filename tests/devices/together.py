"""Several real processes, with the tests' own job imported beforehand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.testing.processes import together as started


def together(folder: Path, processes: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Return what `function(*args)` gives in each of the processes, by rank; `folder` is for their answers."""
    return started(folder, processes, function, *args, preload=("zoo.run", "tests.train.tiny"))
