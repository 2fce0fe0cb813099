"""What installed distributions name in an entry-point group. Nothing of theirs is imported."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True)
class Named:
    """An entry point and the distribution that has it."""

    distribution: str
    version: str
    point: metadata.EntryPoint


def named(group: str) -> list[Named]:
    """Return the group's entry points, by distribution and name; one of each where a distribution lies twice."""
    found: dict[tuple[str, str], Named] = {}
    for one in _all(group):
        found.setdefault((one.distribution, one.point.name), one)
    return [found[key] for key in sorted(found)]


def _all(group: str) -> Iterator[Named]:
    for distribution in metadata.distributions():
        try:  # a spoilt file is passed over: it need not be a plugin's
            points = [point for point in distribution.entry_points if point.group == group]
        except (ValueError, TypeError, OSError):
            continue
        for point in points:
            yield Named(distribution.name or "unknown", distribution.version or "unknown", point)
