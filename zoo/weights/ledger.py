"""The ledger: what became of every tensor of a checkpoint, and where every tensor of the model got its values."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import floor
from typing import Any, Literal

Status = Literal["loaded", "renamed", "dropped", "unexpected", "initialised", "allowed-missing"]
Part = Literal["backbone", "head"]
SHOWN = 4  # names in a line of the table


@dataclass(frozen=True)
class Entry:
    """One key of the file, one tensor of the model, or both.

    `loaded` and `renamed`: the key's values are in the tensor. `dropped` and `unexpected`: the key has no tensor.
    `initialised` and `allowed-missing`: the tensor has no key and keeps its first values. `reason` says by which rule.
    `elements` counts the values that were loaded, dropped, or left as they were.
    """

    source: str | None
    target: str | None
    status: Status
    reason: str
    elements: int
    part: Part


@dataclass(frozen=True)
class Flag:
    """A tensor of the model whose loaded values are odd, and why; it was loaded all the same."""

    name: str
    why: str


@dataclass(frozen=True)
class Ledger:
    """All entries of one loading, and which bytes they came from.

    `initialised_classes` are the class names whose rows the checkpoint lacked (head = "by-class-name"). `which` is what
    chose among several sets of weights, `flags` the tensors whose values look untrained or broken.
    """

    entries: tuple[Entry, ...]
    file: str
    sha256: str
    origin: str
    inside: str = ""
    licence: str | None = None
    initialised_classes: tuple[str, ...] = ()
    which: str = ""
    flags: tuple[Flag, ...] = ()

    @property
    def covered(self) -> int:
        """How many elements of the backbone have the file's values."""
        return _elements(self._of("loaded", "renamed", part="backbone"))

    @property
    def total(self) -> int:
        """How many elements the backbone has, buffers included."""
        return self.covered + _elements(self._of("initialised", "allowed-missing", part="backbone"))

    @property
    def coverage(self) -> float:
        """Share of the backbone's elements that have the file's values, in [0, 1]."""
        return self.covered / self.total if self.total else 0.0

    def table(self) -> str:
        """Return a few lines of plain text: the file, how much was loaded, by which rules, and what was not."""
        taken = self._of("loaded", "renamed")
        lines = [
            f"weights      {self.file}, {self.origin}, sha256 {self.sha256[:12]}",
            f"loaded       {_tensors(taken)}; backbone {self.covered:,} of {self.total:,} elements, "
            + percent(self.covered, self.total),
        ]
        lines += [f"renamed      {number} by {rule}" for rule, number in self._rules().items()]
        for status in ("dropped", "unexpected", "initialised", "allowed-missing"):
            lines += _lines(status.replace("allowed-missing", "may miss"), self._of(status))
        for why in dict.fromkeys(flag.why for flag in self.flags):
            names = [flag.name for flag in self.flags if flag.why == why]
            lines.append(f"flagged      {len(names)} ({_names(names)}): {why}")
        if self.initialised_classes:
            lines.append(f"new classes  {_names(self.initialised_classes)}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: the fields, `coverage`, `covered` and `total`."""
        return {**asdict(self), "coverage": self.coverage, "covered": self.covered, "total": self.total}

    def to_json(self) -> str:
        """Return `as_dict` as JSON text, ending in a newline."""
        return json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n"

    def _of(self, *statuses: str, part: Part | None = None) -> list[Entry]:
        return [entry for entry in self.entries if entry.status in statuses and part in (None, entry.part)]

    def _rules(self) -> Counter[str]:
        # Dozens of rename rules of one card are one line.
        return Counter(
            "the card's or recipe's rename rules" if entry.reason.startswith("rename ") else entry.reason
            for entry in self._of("renamed")
        )


def percent(part: int, whole: int) -> str:
    """Return `part` of `whole` as a percentage, rounded down: "100 %" only when nothing is left out."""
    if part == whole and whole:
        return "100 %"
    return f"{floor(10_000 * part / whole) / 100 if whole else 0.0:.2f} %"


def _elements(entries: Iterable[Entry]) -> int:
    return sum(entry.elements for entry in entries)


def _tensors(entries: list[Entry]) -> str:
    return f"{len(entries):,} tensors, {_elements(entries):,} elements"


def _lines(label: str, entries: list[Entry]) -> list[str]:
    reasons = dict.fromkeys(entry.reason for entry in entries)
    lines = []
    for reason in reasons:
        names = [entry.source or entry.target or "" for entry in entries if entry.reason == reason]
        lines.append(f"{label:<12} {len(names)} ({_names(names)}): {reason}")
    return lines


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (", …" if len(listed) > SHOWN else "")
