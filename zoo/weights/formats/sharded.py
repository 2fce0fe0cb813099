"""A checkpoint in several files, with an index that says which tensor is in which."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.errors import WeightsError, nearest
from zoo.weights.formats.damage import unreadable
from zoo.weights.formats.kinds import INDEX

INCOMPLETE = "the index and the shards are not of one set, or a download is incomplete: get all of them again"
SHOWN = 5  # names in a line of an error


def read_index(path: Path) -> dict[str, str]:
    """Return the shard of each key. WeightsError: no index, or a shard that does not lie beside it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise unreadable(path, f"it is no index: {error}") from error
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise unreadable(path, "it has no weight_map from keys to files", f"an index is a file {INDEX} of a set")
    for name in dict.fromkeys(shards.values()):
        if name != Path(name).name or name in ("", ".."):
            raise WeightsError(
                f"{path.name} names a shard outside its folder: {name!r}", str(path), "shards lie beside their index"
            )
    return shards


def shard_paths(path: Path) -> tuple[Path, ...]:
    """Return the shards' paths, sorted by name. WeightsError: as for `read_index`, or one is not there."""
    names = sorted(set(read_index(path).values()))
    lacking = [name for name in names if not (path.parent / name).exists()]
    if lacking:
        there = [file.name for file in path.parent.iterdir() if file.suffix == Path(lacking[0]).suffix]
        raise WeightsError(
            f"{path.name} names {len(names)} shards, {len(lacking)} of them not there: {_some(lacking)}",
            where=str(path.parent),
            hint=nearest(lacking[0], set(there) - set(names)) if set(there) - set(names) else INCOMPLETE,
        )
    return tuple(path.parent / name for name in names)


def read_sharded(path: Path, read: Callable[[Path], Any]) -> dict[str, Tensor]:
    """Return the tensors of every shard, in the index's order. WeightsError: a key missing, extra, or elsewhere."""
    index = read_index(path)
    found: dict[str, Tensor] = {}
    for shard in shard_paths(path):
        content = read(shard)
        _require_as_told(content, {key for key, name in index.items() if name == shard.name}, shard, path)
        found.update(content)
    return {key: found[key] for key in index}


def _require_as_told(content: Mapping[str, Any], told: set[str], shard: Path, index: Path) -> None:
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{shard.name} holds more than tensors by name", str(shard), INCOMPLETE)
    for keys, what in ((told - set(content), "lacks"), (set(content) - told, "has more than")):
        if keys:
            raise WeightsError(f"{shard.name} {what} {index.name} says: {_some(sorted(keys))}", str(shard), INCOMPLETE)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", … ({len(names)})" if len(names) > SHOWN else "")
