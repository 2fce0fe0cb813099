"""From what a recipe says of shards to their paths."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

import zoo
from braceexpand import braceexpand


def find_shards(patterns: str | Sequence[str], key: str) -> tuple[Path, ...]:
    """Return the shards that patterns mean, in their order, those of one glob sorted; braces first, then globs.

    ZooError: a pattern means none, a shard comes twice, or it is an address and no path.
    """
    where = f"[data] {key}"
    found: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if "://" in pattern or pattern.startswith("pipe:"):
            what = f"shards are read from this machine's disks, and {pattern!r} is an address"
            raise zoo.ZooError(what, where=where, hint="copy them here first")
        for name in _expanded(pattern, where):
            found += _matching(name, pattern, where)
    twice = [path for place, path in enumerate(found) if path in found[:place]]
    if twice:
        raise zoo.ZooError(f"the shard {str(twice[0])!r} comes twice", where=where, hint="name it once")
    if not found:
        raise zoo.ZooError("there are no shards", where=where, hint="name at least one")
    return tuple(found)


def _expanded(pattern: str, where: str) -> list[str]:
    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        what = f"the braces of {pattern!r} do not close"
        raise zoo.ZooError(what, where=where, hint='write "shard-{000..009}.tar"') from error


def _matching(name: str, pattern: str, where: str) -> list[Path]:
    expanded = os.path.expanduser(name)
    matches = sorted(glob.glob(expanded, recursive=True)) if glob.has_magic(expanded) else [expanded]
    files = [Path(match) for match in matches if os.path.isfile(match)]
    if not files:
        of = "" if name == pattern else f", of {pattern!r}"
        raise zoo.ZooError(f"no shard is {name!r}{of}", where=where, hint="paths are relative to the current folder")
    return files
