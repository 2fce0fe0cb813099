"""One case of the corpus: a file, how it is loaded into which model, and what must come of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.weights.corpus.models import State, born, trained
from zoo.registry.contracts import WeightsFile

Write = Callable[[Path], WeightsFile]
Change = Callable[[State], Any]
CANARY = "canary"
"""The file that appears in a case's folder when its checkpoint has had code run."""


@dataclass(frozen=True)
class Refused:
    """A refusal: each of these regular expressions matches a whole line of the message."""

    lines: tuple[str, ...]


def refused(*lines: str) -> Refused:
    """Return the truth of a file that must be refused."""
    return Refused(lines)


Truth = Callable[[State, State], State] | Refused
"""From the values in the file and those of the fresh model to every value afterwards; or a refusal."""


def whole(file: State, _: State) -> State:
    """The model holds the file's values, all of them."""
    return file


@dataclass(frozen=True)
class Case:
    """A checkpoint, made from the trained values of `source`, and what it does to a model of `architecture`.

    `write` puts it into a folder and says what is known of it; `options` are those of `zoo.weights.load`. `into` is
    what stands around the model when it is loaded; the truth speaks of the model within. `flags` are the names and
    reasons that the ledger must have, no others. `by_option`: the truth hangs on an option that only zoo has, not on
    the file, so other loaders cannot be asked.
    """

    name: str
    kind: str
    architecture: str
    write: Write
    truth: Truth = whole
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    into: Callable[[nn.Module], nn.Module] | None = None
    flags: tuple[tuple[str, str], ...] = ()
    by_option: bool = False
    slow: bool = False

    def expected(self) -> State | Refused:
        """Return the values that the model must hold afterwards, in the types it has; or the refusal."""
        if isinstance(self.truth, Refused):
            return self.truth
        first = born(self.architecture)
        after = self.truth(trained(self.source or self.architecture), first)
        return {name: after[name].to(value.dtype) for name, value in first.items()}

    def around(self, model: nn.Module) -> nn.Module:
        """Return what the file is loaded into."""
        return self.into(model) if self.into else model


def save(content: Any, path: Path, **known: Any) -> WeightsFile:
    """Write `content` as torch does."""
    torch.save(content, path)
    return WeightsFile(path, origin="the corpus", **known)


def changed(
    kind: str, name: str, architecture: str, change: Change, truth: Truth = whole, known: Any = (), **more: Any
) -> Case:
    """Return the case of a file that `change` makes of the trained values; `known` are fields of its WeightsFile."""
    source = more.get("source") or architecture

    def write(folder: Path) -> WeightsFile:
        return save(change(trained(source)), folder / "x.pth", **dict(known))

    return Case(name, kind, architecture, write, truth, **more)


def prefixed(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """Put every name below `prefix`, which ends in a dot."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def short(architecture: str) -> str:
    """Return an architecture's name without its library and the commas, for names of cases."""
    return architecture.rpartition("/")[2].replace(", ", "-").replace(" ", "")
