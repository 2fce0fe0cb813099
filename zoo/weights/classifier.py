"""What becomes of a checkpoint's own classifier: dropped, kept, or its rows taken by class name."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from zoo.errors import WeightsError

Policy = Literal["reset", "keep", "by-class-name"]
USUAL = ("fc", "classifier", "head", "heads", "head_dist", "last_linear")
"""First segments of classifiers' names."""


@dataclass(frozen=True)
class Classifier:
    """The native classifier: its prefix ("fc", or None), the policy, the model's classes and those of the file."""

    prefix: str | None
    policy: Policy
    classes: tuple[str, ...]
    known: tuple[str, ...] | None

    def names(self) -> tuple[str, ...]:
        """Return the names of its tensors, whether or not the model has them."""
        return () if self.prefix is None else (f"{self.prefix}.weight", f"{self.prefix}.bias")

    def owns(self, name: str) -> bool:
        """Tell whether a native name belongs to it."""
        return self.prefix is not None and name.startswith(f"{self.prefix}.")

    def drops(self, name: str, first_segments: frozenset[str]) -> bool:
        """Tell whether a key that the model lacks is a classifier of another name, which `head = "reset"` drops.

        Only where the model itself has nothing of that name.
        """
        first = name.split(".")[0]
        return self.policy == "reset" and first in USUAL and first not in first_segments

    def require_classes(self, names: Collection[str], where: str) -> None:
        """Check that `keep` or `by-class-name` can be followed.

        WeightsError: none of the model's `names` is the classifier's, or the class names do not allow it.
        """
        if not any(self.owns(name) for name in names):
            raise WeightsError(
                f'head = "{self.policy}", but the model\'s head has no native form',
                where=where,
                hint='use a linear head, or head = "reset"',
            )
        if self.policy == "keep" and self.known is not None and self.classes and self.known != self.classes:
            raise WeightsError(
                f'head = "keep", but {_difference(self.known, self.classes)}',
                where=where,
                hint='head = "by-class-name" takes the rows by name; head = "reset" starts a new classifier',
            )
        if self.policy == "by-class-name":
            self._require_names(where)

    def _require_names(self, where: str) -> None:
        hint = 'head = "reset" starts a new classifier'
        if self.known is None:
            raise WeightsError(
                'head = "by-class-name", but the file does not say which classes its rows are',
                where=where,
                hint=f"write a card with `classes`, or {hint}",
            )
        twice = [name for name, number in Counter(self.known).items() if number > 1]
        if twice:
            raise WeightsError(f"the file's class names hold {twice[0]!r} more than once", where=where, hint=hint)
        if not set(self.known) & set(self.classes):
            raise WeightsError(
                f"none of the model's {len(self.classes)} classes is among the file's {len(self.known)}",
                where=where,
                hint=f"class names are compared letter by letter; {hint}",
            )

    def missing_classes(self) -> tuple[str, ...]:
        """Return the model's classes that the file lacks, in the model's order (policy `by-class-name`)."""
        return tuple(name for name in self.classes if name not in (self.known or ()))

    def gather(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the rows of `source` (classes of the file, …) in the model's order; absent ones are `target`'s own."""
        known = {name: index for index, name in enumerate(self.known or ())}
        rows = target.detach().clone()
        for index, name in enumerate(self.classes):
            if name in known:
                rows[index] = source[known[name]].to(rows.dtype)
        return rows


def _difference(known: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    if len(known) != len(wanted):
        return f"the file has {len(known)} classes and the model {len(wanted)}"
    index = next(index for index, pair in enumerate(zip(known, wanted, strict=True)) if pair[0] != pair[1])
    return f"class {index} is {known[index]!r} in the file and {wanted[index]!r} in the model"
