"""The registry: every installed part, and who offers it. A clash is refused only when a recipe uses its name."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from zoo import __version__
from zoo.errors import PluginError, nearest
from zoo.installed import only
from zoo.registry import kinds
from zoo.registry.discovery import (
    Candidate,
    OwnedPart,
    Plugin,
    builtin_candidate,
    discover,
    entry_point_candidates,
)
from zoo.registry.local import LocalFile, local_candidate, look_at_all
from zoo.registry.owner import OWN, Owner


@dataclass(frozen=True)
class Registry:
    """The plugins found, and through them the parts. `load_registry(blocked, files=files)` makes it again elsewhere.

    `before` is who offered the parts of the run whose recipe is read: it is named where one of them is missing.
    """

    found: tuple[Plugin, ...]
    blocked: tuple[str, ...] = ()
    files: tuple[LocalFile, ...] = ()
    before: Mapping[str, Owner] = field(default_factory=dict)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """What has become of every plugin by now: one that was slow may have come."""
        return tuple(plugin.now() for plugin in self.found)

    def parts(self, kind: kinds.Kind) -> tuple[OwnedPart, ...]:
        """Return all parts of a kind with their owners, clashing ones included, ordered by name."""
        return _parts(self.plugins, kind)

    def find(self, kind: kinds.Kind, name: str) -> OwnedPart:
        """Return the part of that name. PluginError: none has it (the nearest are named), or two owners do.

        A name that nobody has may be a slow plugin's: that is waited for. Whoever had it when the registry was made has
        it for good: a plugin that comes later does not make a run fail in its middle.
        """
        found = [item for item in _parts(self.found, kind) if item.part.name == name]
        if not found and any(plugin.state == "slow" for plugin in self.plugins):
            awaited = [plugin.awaited() for plugin in self.found]
            found = [item for item in _parts(awaited, kind) if item.part.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise _clash(kind, name, found)
        raise self._missing(kind, name)

    def remembering(self, before: Mapping[str, Owner]) -> "Registry":
        """Return the registry for the recipe of a run, whose parts these owners offered."""
        return replace(self, before=before) if before else self

    def _missing(self, kind: kinds.Kind, name: str) -> PluginError:
        owner = self.before.get(f"{kind.name} {name}")
        aside = [_left_aside(plugin) for plugin in self.plugins if plugin.state != "ok"]
        hint = f"; not loaded: {', '.join(aside)} (see `zoo plugins`)" if aside else ""
        if owner is not None and not owner.is_zoo:
            way = f"name it again: {owner.get()}" if owner.file else owner.get()
            return PluginError(f"there is no {kind.name} {name!r} here: it came from {owner}", hint=way + hint)
        known = {item.part.name for item in self.parts(kind)}
        return PluginError(f"there is no {kind.name} {name!r}", hint=nearest(name, known) + hint)


def _left_aside(plugin: Plugin) -> str:
    """The plugin; with the reason where it is a file that was named for its parts."""
    return f"{plugin.owner}: {plugin.reason}" if plugin.owner.file else str(plugin.owner)


def _parts(plugins: Iterable[Plugin], kind: kinds.Kind) -> tuple[OwnedPart, ...]:
    owned = [OwnedPart(part, plugin.owner) for plugin in plugins for part in plugin.parts if part.kind is kind]
    return tuple(sorted(owned, key=lambda item: item.part.name))


def _clash(kind: kinds.Kind, name: str, found: Sequence[OwnedPart]) -> PluginError:
    owners = [item.owner for item in found]
    return PluginError(
        f"{kind.name} {name!r} is offered by {' and '.join(map(str, owners))}",
        hint=f"leave one out with {ways_out(owners)}",
    )


def ways_out(owners: Collection[Owner]) -> str:
    """Return the options that leave one of several plugins out; the distribution is named where their names are one."""
    names = [owner.plugin for owner in owners]
    words = [
        owner.plugin if names.count(owner.plugin) == 1 else owner.distribution for owner in owners if not owner.is_zoo
    ]
    return " or ".join(f"`-p no:{word}`" for word in words)


def load_registry(
    blocked: Sequence[str] = (),
    candidates: Iterable[Candidate] | None = None,
    files: Sequence[str | Path | LocalFile] = (),
) -> Registry:
    """Return the registry of zoo's own parts and of all installed plugins, without the `blocked` ones.

    `files` are local files of parts. `ZOO_PLUGINS` in the environment names the installed plugins that count.
    `candidates` replaces the installed plugins (tests, notebooks). Never raises for an installed plugin's fault: see
    `plugins`. PluginError: a file cannot be taken, or `blocked` or `ZOO_PLUGINS` names what is not installed.
    """
    looked_at = look_at_all(files)
    folders = {file.path.parent for file in looked_at if file.added}
    stems = {file.path.stem for file in looked_at}
    others = entry_point_candidates(folders, {*blocked} - stems) if candidates is None else candidates
    chosen = only() if candidates is None else None
    allowed = tuple(name for name in blocked if name not in OWN)
    every = [builtin_candidate(__version__), *others, *map(local_candidate, looked_at)]
    return Registry(discover(every, allowed, chosen), allowed, looked_at)
