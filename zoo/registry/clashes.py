"""Names that two plugins offer: all their other parts work."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.registry.discovery import Plugin
from zoo.registry.owner import Owner


@dataclass(frozen=True)
class Clash:
    """A part ("head cosine") that one plugin offers, and so do `others`."""

    part: str
    others: tuple[Owner, ...]

    def __str__(self) -> str:
        return f"{self.part} with {' and '.join(map(str, self.others))}"


def find_clashes(plugins: Sequence[Plugin]) -> dict[Owner, tuple[Clash, ...]]:
    """Return the clashes of every plugin that has some."""
    owners: dict[str, list[Owner]] = defaultdict(list)
    for plugin in plugins:
        for part in plugin.parts:
            owners[f"{part.kind.name} {part.name}"].append(plugin.owner)
    found: dict[Owner, tuple[Clash, ...]] = {}
    for name, offered in owners.items():
        for owner in offered if len(offered) > 1 else ():
            others = tuple(other for other in offered if other is not owner)
            found[owner] = (*found.get(owner, ()), Clash(name, others))
    return found
