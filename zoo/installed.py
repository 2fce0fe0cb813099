"""What installed distributions name in entry-point groups, and which of them count. Nothing of theirs is imported."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

ONLY = "ZOO_PLUGINS"
"""The environment variable that names the plugins that count, by their names or their distributions': "a,b"."""


@dataclass(frozen=True)
class Named:
    """An entry point and the distribution that has it. `shadowed` says where it lies again, for nothing."""

    distribution: str
    version: str
    point: metadata.EntryPoint
    shadowed: tuple[str, ...] = ()


def named(group: str) -> list[Named]:
    """Return the group's entry points, by distribution and name."""
    return scan((group,))


def scan(groups: Sequence[str], without: Collection[Path] = ()) -> list[Named]:
    """Return the entry points of several groups, by distribution and name, in one pass over what is installed.

    A distribution that lies twice on the path counts once, where Python would import it from. What lies in the folders
    `without` does not count.
    """
    found: dict[str, list[Named]] = {}
    places: dict[str, list[str]] = {}
    for place, points in _all(groups):
        if place and Path(place) in without:
            continue
        key = _plain(points[0].distribution)
        if place in places.setdefault(key, []):  # a folder that stands on the path twice
            continue
        places[key].append(place)
        if key in found:
            again = f"{points[0].version} in {place}"
            found[key] = [replace(one, shadowed=(*one.shadowed, again)) for one in found[key]]
        else:
            found[key] = points
    return sorted((one for points in found.values() for one in points), key=lambda one: (one.distribution, one.point))


def _all(groups: Sequence[str]) -> Iterator[tuple[str, list[Named]]]:
    """Yield the place of every distribution that has such entry points, and these."""
    for distribution in metadata.distributions():
        try:  # a spoilt file is passed over: it need not be a plugin's
            text = distribution.read_text("entry_points.txt") or ""
            if not any(f"[{group}]" in text for group in groups):
                continue
            points = [point for point in distribution.entry_points if point.group in groups]
            name, version = _name_and_version(distribution)
            place = str(distribution.locate_file(""))
        except (ValueError, TypeError, KeyError, OSError):
            continue
        if points:
            yield place, [Named(name, version, point) for point in points]


def _name_and_version(distribution: metadata.Distribution) -> tuple[str, str]:
    """Read the two lines that are wanted: parsing a whole METADATA, README included, takes a hundred times as long."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    found = dict(re.findall(r"^(Name|Version):[ \t]*(.*?)\s*$", text.partition("\n\n")[0], re.MULTILINE))
    return found.get("Name") or "unknown", found.get("Version") or "unknown"


def _plain(name: str) -> str:
    """Return a distribution's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_among(names: Collection[str], plugin: str, distribution: str) -> bool:
    """Return whether a plugin is among `names`, by its own name or its distribution's, however that is spelt."""
    return plugin in names or _plain(distribution) in {_plain(name) for name in names}


def only() -> tuple[str, ...] | None:
    """Return the names in `ZOO_PLUGINS`; () where it is set and empty, None where it is not set."""
    value = os.environ.get(ONLY)
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())
