"""Ask a plugin's object for its parts, and hold the answers against the hookspec."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import pluggy

from zoo.registry import kinds
from zoo.registry.faults import NotAPluginError
from zoo.registry.hookspecs import PROJECT, PartHooks
from zoo.registry.parts import BackbonePart, Part


def collect(plugin: object, name: str) -> tuple[Part, ...]:
    """Return the parts that a plugin's hooks give. NotAPluginError, pluggy.PluginValidationError: it is none.

    It is registered with a manager of its own, so that nothing of a failed one is left.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(PartHooks)
    manager.register(_instance(plugin), name=name)
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
    try:
        result = function()
        if result is None or isinstance(result, str | bytes) or not isinstance(result, Iterable):
            raise NotAPluginError(f"{kind.hook} must return an iterable of parts, not {type(result).__name__}")
        parts = list(result)
    except NotAPluginError:
        raise
    except Exception as error:
        raise NotAPluginError(f"{kind.hook} raised {type(error).__name__}: {error}") from error
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
