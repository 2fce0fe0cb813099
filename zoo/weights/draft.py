"""The ledger while it is written, and the refusal when anything is left unaccounted for."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from zoo.errors import Problem, WeightsError
from zoo.weights.classifier import Classifier
from zoo.weights.ledger import Entry, Flag, Ledger, Part, Status, percent
from zoo.weights.reading import Checkpoint
from zoo.weights.target import Target
from zoo.weights.values import Extremes, extremes

SHOWN = 5  # names in a line of an error


@dataclass
class Draft:
    """Entries and new values so far, and what stands against them.

    `adaptable` are the kinds of shapes that may be adapted, `extremes` those of the file's values by key. `missing` are
    names of the model, `misfits` names of the model with why, `unexpected` keys of the file.
    """

    target: Target
    head: Classifier
    adaptable: Collection[str] = ()
    extremes: Mapping[str, Extremes | None] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    values: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    misfits: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)

    def part(self, name: str) -> Part:
        """Return which part of the model a native name belongs to."""
        return "head" if self.head.owns(name) else "backbone"

    def add(self, status: Status, source: str | None, target: str | None, reason: str, elements: int) -> None:
        """Write an entry; its part follows from the name."""
        part = self.part(target or source or "")
        self.entries.append(Entry(source, target, status, reason, elements, part))


def require_finite(checkpoint: Checkpoint) -> dict[str, Extremes | None]:
    """Return the extremes of each key's values. WeightsError: a tensor of the file holds NaN or Inf."""
    found = {key: extremes(tensor) for key, tensor in checkpoint.tensors.items()}
    bad = [key for key, pair in found.items() if pair is not None and not pair.are_numbers()]
    if bad:
        raise WeightsError(
            f"{_some(bad, 'tensor')} of the file {'holds' if len(bad) == 1 else 'hold'} NaN or Inf",
            where=str(checkpoint.path),
            hint="its training diverged, or the file is damaged: take an earlier checkpoint",
        )
    return found


def require_complete(draft: Draft, ledger: Ledger) -> None:
    """WeightsError when a tensor or key has no entry, or nothing learnt of the backbone is covered."""
    total = sum(tensor.numel() for name, tensor in draft.target.tensors.items() if draft.part(name) == "backbone")
    against = _against(draft)
    if not against and (ledger.learnt() or not total):
        return
    share = f"{percent(ledger.covered, total)} of the backbone's {total:,} elements are covered"
    problem = Problem(f"{ledger.file} does not fit the model: {share}", ledger.origin, _mend(draft, ledger, total))
    raise WeightsError.of([problem, *(Problem(text) for text in against)])


def _against(draft: Draft) -> list[str]:
    lines = []
    if draft.missing:
        lines.append(f"not in the file: {_some(draft.missing, 'tensor')} of the model")
    if draft.misfits:
        misfits = [f"{name} {why}" for name, why in draft.misfits.items()]
        lines.append(f"of another shape or type: {_some(misfits, 'tensor')}")
    if draft.unexpected:
        lines.append(f"not in the model: {_some(draft.unexpected, 'key')} of the file")
    return lines


def _mend(draft: Draft, ledger: Ledger, total: int) -> str:
    head = [name for name in (*draft.missing, *draft.misfits) if draft.head.owns(name)]
    if head and draft.head.policy != "reset" and not draft.unexpected and ledger.covered == total:
        return 'head = "reset" starts a new classifier'
    if draft.misfits:
        return "the weights are of another architecture, or of another variant of it: name the one they were made for"
    if draft.missing and draft.unexpected:
        return "other names, or another architecture: map the names with `rename`, or name the right architecture"
    if draft.missing:
        return "if the backbone may do without them, list them in `may_miss`"
    return "map them with `rename`; or list in `may_drop` what the model need not take"


def _some(names: Sequence[str], noun: str) -> str:
    more = f", … ({len(names)} {noun}s)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
