"""Names of parameters: what lies under what, and what people write for it.

A model's names are `backbone.layer1.0.conv1.weight` and `heads.main.linear.bias`. People write the backbone's own names
("layer1"); the layout's root is put before them.
"""

from collections.abc import Iterable, Sequence

from zoo.errors import ZooError, nearest
from zoo.registry.contracts import Layout


def under(name: str, prefix: str) -> bool:
    """Return whether a dotted name is `prefix` or lies below it: `layer1.0` is under `layer1`, `layer10` is not."""
    return name == prefix or name.startswith(f"{prefix}.")


def in_heads(layout: Layout, name: str) -> bool:
    """Return whether a name of the model lies in one of its heads."""
    return any(under(name, head) for head in layout.heads)


def short(layout: Layout, name: str) -> str:
    """Return a name as people write it: the backbone's without its root."""
    return name.removeprefix(layout.root)


def head_name(prefix: str) -> str:
    """Return what a recipe calls the head of that prefix: "main" for `heads.main`."""
    return prefix.rpartition(".")[2]


def find_prefixes(layout: Layout, prefixes: Sequence[str], key: str) -> list[str]:
    """Return prefixes of the backbone as the model spells them. ZooError names `key` and one that matches nothing."""
    found = [f"{layout.root}{prefix}" for prefix in prefixes]
    backbone = [name for name in layout.parameters if not in_heads(layout, name)]
    for prefix, full in zip(prefixes, found, strict=True):
        if not any(under(name, full) for name in backbone):
            known = [short(layout, stage) for stage in layout.stages]
            what = f"freeze.{key} names {prefix!r}, and no parameter of the backbone lies under it"
            raise ZooError(what, where="[freeze]", hint=nearest(prefix, known))
    return found


def some(names: Sequence[str]) -> str:
    """Return the first five of the names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def longest(name: str, prefixes: Iterable[str]) -> str | None:
    """Return the longest of the prefixes that a name lies under, or None."""
    return max((prefix for prefix in prefixes if under(name, prefix)), key=len, default=None)
