"""The registry: every installed part, and who offers it. A clash is refused only when a recipe uses its name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zoo import __version__
from zoo.errors import PluginError, nearest
from zoo.registry import kinds
from zoo.registry.discovery import (
    Candidate,
    OwnedPart,
    Plugin,
    builtin_candidate,
    discover,
    entry_point_candidates,
)


@dataclass(frozen=True)
class Registry:
    """The plugins found, and through them the parts."""

    plugins: tuple[Plugin, ...]

    @property
    def blocked(self) -> tuple[str, ...]:
        """The names of the plugins that were left out."""
        return tuple(plugin.owner.plugin for plugin in self.plugins if plugin.state == "blocked")

    def parts(self, kind: kinds.Kind) -> tuple[OwnedPart, ...]:
        """Return all parts of a kind with their owners, clashing ones included, ordered by name."""
        owned = [OwnedPart(part, plugin.owner) for plugin in self.plugins for part in plugin.parts if part.kind is kind]
        return tuple(sorted(owned, key=lambda item: item.part.name))

    def find(self, kind: kinds.Kind, name: str) -> OwnedPart:
        """Return the part of that name. PluginError: none has it (the nearest are named), or two owners do."""
        offered = self.parts(kind)
        found = [item for item in offered if item.part.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise _clash(kind, name, found)
        raise PluginError(
            f"there is no {kind.name} {name!r}", hint=self._mend(name, {item.part.name for item in offered})
        )

    def _mend(self, name: str, known: Iterable[str]) -> str:
        broken = [str(plugin.owner) for plugin in self.plugins if plugin.state != "ok"]
        aside = f"; not loaded: {', '.join(broken)} (see `zoo plugins`)" if broken else ""
        return nearest(name, known) + aside


def _clash(kind: kinds.Kind, name: str, found: Sequence[OwnedPart]) -> PluginError:
    owners = " and ".join(str(item.owner) for item in found)
    ways = " or ".join(f"`-p no:{item.owner.plugin}`" for item in found if item.owner.plugin != "zoo")
    return PluginError(f"{kind.name} {name!r} is offered by {owners}", hint=f"leave one out with {ways}")


def load_registry(blocked: Sequence[str] = (), candidates: Iterable[Candidate] | None = None) -> Registry:
    """Return the registry of zoo's own parts and of all installed plugins, without the `blocked` ones.

    `candidates` replaces the installed plugins (tests, notebooks). Never raises for a plugin's fault: see `plugins`.
    """
    others = entry_point_candidates() if candidates is None else candidates
    allowed = [name for name in blocked if name not in ("zoo", "zoo-finetune")]
    return Registry(discover([builtin_candidate(__version__), *others], allowed))
