"""The ledger: what became of every tensor of a checkpoint, and where every tensor of the model got its values."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import floor
from typing import Any, Literal

from zoo.weights.names import stage_of

Status = Literal["loaded", "renamed", "adapted", "dropped", "unexpected", "initialised", "allowed-missing"]
Part = Literal["backbone", "head"]
TAKEN: tuple[Status, ...] = ("loaded", "renamed", "adapted")
SHOWN = 4  # names in a line of the table


@dataclass(frozen=True)
class Entry:
    """One key of the file, one tensor of the model, or both.

    `loaded` and `renamed`: the key's values are in the tensor; `adapted`: what became of them in its shape. `dropped`
    and `unexpected`: the key has no tensor. `initialised` and `allowed-missing`: the tensor has no key and keeps its
    first values. `reason` says by which rule.
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
class StageCount:
    """A stage of the backbone: how many of its tensors and elements have the file's values."""

    name: str
    loaded: int
    tensors: int
    covered: int
    elements: int


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
        return _elements(self._of(*TAKEN, part="backbone"))

    @property
    def total(self) -> int:
        """How many elements the backbone has, buffers included."""
        return self.covered + _elements(self._of("initialised", "allowed-missing", part="backbone"))

    @property
    def coverage(self) -> float:
        """Share of the backbone's elements that have the file's values, in [0, 1]."""
        return self.covered / self.total if self.total else 0.0

    def learnt(self) -> int:
        """Return how many elements of the backbone have the file's values, counters of batches aside."""
        taken = self._of(*TAKEN, part="backbone")
        return _elements(entry for entry in taken if not (entry.target or "").endswith("num_batches_tracked"))

    def stages(self) -> tuple[StageCount, ...]:
        """Return the backbone's stages, in the order of the file and then of what it lacks."""
        groups: dict[str, list[Entry]] = {}
        for entry in self._of(*TAKEN, "initialised", "allowed-missing", part="backbone"):
            groups.setdefault(stage_of(entry.target or ""), []).append(entry)
        return tuple(_count(name, entries) for name, entries in groups.items())

    def table(self, verbose: bool = False) -> str:
        """Return a few lines of plain text: the file, how much was loaded, by which rules, and what was not.

        `verbose` adds the details.
        """
        taken = self._of(*TAKEN)
        lines = [
            f"weights      {self.file}, {self.origin}, sha256 {self.sha256[:12]}",
            f"loaded       {_tensors(taken)}; backbone {self.covered:,} of {self.total:,} elements, "
            + percent(self.covered, self.total),
        ]
        lines += [f"renamed      {number} by {rule}" for rule, number in self._rules().items()]
        for status in ("adapted", "dropped", "unexpected", "initialised", "allowed-missing"):
            lines += _lines(status.replace("allowed-missing", "may miss"), self._of(status))
        for why in dict.fromkeys(flag.why for flag in self.flags):
            names = [flag.name for flag in self.flags if flag.why == why]
            lines.append(f"flagged      {len(names)} ({_names(names)}): {why}")
        if self.initialised_classes:
            lines.append(f"new classes  {_names(self.initialised_classes)}")
        return "\n".join([*lines, self.details()] if verbose else lines)

    def details(self) -> str:
        """Return a line a stage and a line an entry."""
        stages = [
            f"stage        {stage.name}: {stage.loaded} of {stage.tensors} tensors, "
            f"{stage.covered:,} of {stage.elements:,} elements"
            for stage in self.stages()
        ]
        return "\n".join([*stages, *map(_line, self.entries)])

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: the fields, `coverage`, `covered`, `total` and `stages`."""
        counted = {"coverage": self.coverage, "covered": self.covered, "total": self.total}
        return {**asdict(self), **counted, "stages": [asdict(stage) for stage in self.stages()]}

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


def _count(name: str, entries: list[Entry]) -> StageCount:
    taken = [entry for entry in entries if entry.status in TAKEN]
    targets = {entry.target for entry in entries}
    return StageCount(name, len(taken), len(targets), _elements(taken), _elements(entries))


def _line(entry: Entry) -> str:
    path = entry.source or entry.target or ""
    if None not in (entry.source, entry.target) and entry.source != entry.target:
        path = f"{entry.source} → {entry.target}"
    reason = f": {entry.reason}" if entry.reason else ""
    return f"{entry.status.replace('allowed-missing', 'may miss'):<12} {path} ({entry.elements:,}){reason}"


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
