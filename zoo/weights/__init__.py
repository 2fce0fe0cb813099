"""Weights: where their bytes are, how they are read, and the ledger that accounts for every one of them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.weights.conversion import Converted, convert
    from zoo.weights.ledger import Entry, Ledger
    from zoo.weights.loading import Planned, load, load_state, plan
    from zoo.weights.reading import read_tensors
    from zoo.weights.target import Target

__all__ = ["Converted", "Entry", "Ledger", "Planned", "Target", "convert", "load", "load_state", "plan", "read_tensors"]

_HOMES = {
    "conversion": ("Converted", "convert"),
    "ledger": ("Entry", "Ledger"),
    "loading": ("Planned", "load", "load_state", "plan"),
    "reading": ("read_tensors",),
    "target": ("Target",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'zoo.weights' has no attribute {name!r}")
    return getattr(import_module(f"zoo.weights.{_HOME_OF[name]}"), name)
