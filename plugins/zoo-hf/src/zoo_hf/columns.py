"""Which columns hold images and labels: found by their types, or named by the recipe."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import zoo

from zoo_hf.plugin import HfDataOptions


@dataclass(frozen=True)
class Columns:
    """The names of two columns."""

    image: str
    label: str


def find_columns(features: Mapping[str, Any], options: HfDataOptions) -> Columns:
    """Return the columns that the recipe names, else the only ones of their types.

    ZooError: there is no such column, it is of another type, or several would do (all are named).
    """
    image = _find(features, options.image, "image", _is_image, "Image")
    return Columns(image, _find(features, options.label, "label", _is_label, "ClassLabel"))


def _find(
    features: Mapping[str, Any], asked: str | None, key: str, fits: Callable[[Any, bool], bool], kind: str
) -> str:
    where = f"[data] {key}"
    if asked is None:
        found = [name for name, feature in features.items() if fits(feature, False)]
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} columns are of the type {kind}: {', '.join(found)}" if found else f"no column is {kind}"
        raise zoo.ZooError(what, where=where, hint=f"set data.{key} to one of {_listed(found or list(features))}")
    if asked not in features:
        raise zoo.ZooError(f"there is no column {asked!r}", where=where, hint=f"one of {_listed(list(features))}")
    if not fits(features[asked], True):
        what = f"the column {asked!r} cannot hold {key}s: {features[asked]}"
        raise zoo.ZooError(what, where=where, hint=f"one of {_listed([n for n in features if n != asked])}")
    return asked


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _is_image(feature: Any, asked: bool) -> bool:
    """Whether a column has images; one that is asked for may hold their bare bytes."""
    stored = isinstance(feature, Mapping) and set(feature) == {"bytes", "path"}  # Parquet that `datasets` did not write
    return isinstance(feature, datasets.Image) or stored or (asked and _dtype(feature) in ("binary", "large_binary"))


def _is_label(feature: Any, asked: bool) -> bool:
    """Whether a column has classes; one that is asked for may hold text or whole numbers."""
    kind = _dtype(feature)
    return isinstance(feature, datasets.ClassLabel) or (asked and ("string" in kind or "int" in kind))


def _dtype(feature: Any) -> str:
    return feature.dtype if isinstance(feature, datasets.Value) else ""
