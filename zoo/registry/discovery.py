"""Find plugins by their entry points, each in a quarantine of its own: a broken one never costs another its parts."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import ModuleType
from typing import Any, Literal

import pluggy

from zoo.installed import named
from zoo.registry import kinds
from zoo.registry.hookspecs import PROJECT, PartHooks
from zoo.registry.parts import BackbonePart, Part

GROUP = "zoo"
State = Literal["ok", "broken", "blocked"]


@dataclass(frozen=True)
class Owner:
    """Who offers a part: the distribution, its version, and the plugin's entry-point name in it."""

    distribution: str
    version: str
    plugin: str

    def __str__(self) -> str:
        return f"{self.plugin} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class OwnedPart:
    """A part and who offers it."""

    part: Part
    owner: Owner


@dataclass(frozen=True)
class Plugin:
    """What became of one plugin: its parts, or the reason why it gives none. `seconds` is its import and hook time."""

    owner: Owner
    state: State
    parts: tuple[Part, ...] = ()
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """A plugin not loaded yet: who it is and how to get its object."""

    owner: Owner
    load: Callable[[], object]


class NotAPluginError(Exception):
    """A plugin's object, hook or result is not what the hookspec says."""


def builtin_candidate(version: str) -> Candidate:
    """Return the plugin that declares zoo's own parts; it goes through the same steps as anyone's."""

    def load() -> object:
        from zoo.registry.builtin import plugin

        return plugin

    return Candidate(Owner("zoo-finetune", version, "zoo"), load)


def entry_point_candidates() -> list[Candidate]:
    """Return what the installed distributions name in the entry-point group `zoo`, ordered by distribution and name."""
    return [Candidate(Owner(one.distribution, one.version, one.point.name), one.point.load) for one in named(GROUP)]


def discover(candidates: Iterable[Candidate], blocked: Sequence[str] = ()) -> tuple[Plugin, ...]:
    """Load every candidate that is not blocked (by entry-point or distribution name) and collect its parts."""
    return tuple(_examine(candidate, blocked) for candidate in candidates)


def _examine(candidate: Candidate, blocked: Sequence[str]) -> Plugin:
    owner = candidate.owner
    if owner.plugin in blocked or owner.distribution in blocked:
        return Plugin(owner, "blocked", reason=f"-p no:{owner.plugin}")
    started = perf_counter()
    try:
        parts = _collect(candidate.load(), owner)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  a plugin may raise anything, SystemExit included
        return Plugin(owner, "broken", reason=_reason(error), seconds=perf_counter() - started)
    return Plugin(owner, "ok", parts, seconds=perf_counter() - started)


def _reason(error: BaseException) -> str:
    if isinstance(error, NotAPluginError | pluggy.PluginValidationError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _collect(plugin: object, owner: Owner) -> tuple[Part, ...]:
    """Register the plugin with a manager of its own (so that nothing of a failed one is left) and call its hooks."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(PartHooks)
    manager.register(_instance(plugin), name=owner.plugin)
    manager.check_pending()
    parts: list[Part] = []
    for kind in kinds.KINDS:
        for implementation in getattr(manager.hook, kind.hook).get_hookimpls():
            parts += _call(kind, implementation.function)
    if not parts:
        raise NotAPluginError(
            f"offers no parts: it has none of the hooks {', '.join(kinds.BY_HOOK)}, or they return nothing"
        )
    return _without_doubles(parts)


def _instance(plugin: object) -> object:
    if isinstance(plugin, ModuleType) or not inspect.isclass(plugin):
        return plugin
    return plugin()


def _call(kind: kinds.Kind, function: Callable[..., Any]) -> list[Part]:
    result = function()
    if result is None or isinstance(result, str | bytes) or not isinstance(result, Iterable):
        raise NotAPluginError(f"{kind.hook} must return an iterable of parts, not {type(result).__name__}")
    parts = list(result)
    for part in parts:
        if not isinstance(part, Part) or part.kind is not kind:
            raise NotAPluginError(f"{kind.hook} must give {_part_class(kind)} objects, not {type(part).__name__}")
    return parts


def _part_class(kind: kinds.Kind) -> str:
    classes = {cls.kind.name: cls.__name__ for cls in Part.__subclasses__()}
    return classes.get(kind.name, BackbonePart.__name__)


def _without_doubles(parts: Sequence[Part]) -> tuple[Part, ...]:
    seen: set[tuple[str, str]] = set()
    for part in parts:
        if (part.kind.name, part.name) in seen:
            raise NotAPluginError(f"offers the {part.kind.name} {part.name!r} twice")
        seen.add((part.kind.name, part.name))
    return tuple(parts)
