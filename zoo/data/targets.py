"""Named targets: what a head may predict beside the data's own classes, as groups of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo.errors import DataError, nearest

CLASS = "class"
"""The target that every data source has: its own classes."""


@dataclass(frozen=True)
class NamedTarget:
    """What a head predicts: its classes, and for each of the data's classes which of them it is, None for itself."""

    classes: tuple[str, ...]
    of: tuple[int, ...] | None = None


def named_targets(groups: Mapping[str, Mapping[str, Sequence[str]]], classes: Sequence[str]) -> dict[str, NamedTarget]:
    """Return every target by name: the data's classes, and the groupings of a recipe, {target: {group: its classes}}.

    DataError: a grouping has fewer than two groups, names what is no class, or has a class in no group or in two.
    """
    own = NamedTarget(tuple(classes))
    return {CLASS: own, **{name: _grouping(name, found, classes) for name, found in groups.items()}}


def _grouping(target: str, groups: Mapping[str, Sequence[str]], classes: Sequence[str]) -> NamedTarget:
    where = f"data.targets.{target}"
    if len(groups) < 2:
        raise DataError(f"target {target!r} has {len(groups)} groups", where, "a classifier needs two or more")
    listed = [name for names in groups.values() for name in names]
    for name in listed:
        if name not in classes:
            raise DataError(f"target {target!r} groups {name!r}, which is no class", where, nearest(name, classes))
    for wrong, what in (
        ([name for name in classes if name not in listed], "in no group"),
        ([name for name in classes if listed.count(name) > 1], "in more than one group"),
    ):
        if wrong:
            shown = ", ".join(repr(name) for name in wrong)
            raise DataError(f"target {target!r} has {shown} {what}", where, "put each class into one group")
    place = {name: index for index, names in enumerate(groups.values()) for name in names}
    return NamedTarget(tuple(groups), tuple(place[name] for name in classes))
