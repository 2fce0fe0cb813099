"""Which checks a part is held to, and how they are run: one by one for pytest, all at once for everyone else."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import PluginError, nearest
from zoo.installed import is_among
from zoo.registry import kinds
from zoo.registry.discovery import Plugin
from zoo.registry.parts import Options, Part
from zoo.registry.registry import Registry
from zoo.testing.kit import Check, ConformanceError, NotTriedError, Trial
from zoo.testing.plugins import PluginCase, plugin_cases


def checks_of(kind: kinds.Kind) -> tuple[Check, ...]:
    """Return the checks of a kind, those of every kind first."""
    from zoo.testing import backbones, callbacks, data, devices, exporters, freezing, heads, shared, weights, whole

    own: Mapping[str, tuple[Check, ...]] = {
        "backbone": (*backbones.CHECKS, *whole.CHECKS),
        "head": (*heads.CHECKS, *whole.CHECKS),
        "weights": weights.CHECKS,
        "data": data.CHECKS,
        "freeze": freezing.CHECKS,
        "device": devices.CHECKS,
        "export": exporters.CHECKS,
        "callback": callbacks.CHECKS,
    }
    return (*shared.CHECKS, *own[kind.name])


@dataclass(frozen=True)
class Case:
    """One check of one part. `options` are those to build it with; the part's own examples when None."""

    part: Part
    check: Check
    options: Options | None = None

    @property
    def name(self) -> str:
        """The check's name."""
        return self.check.name

    @property
    def slow(self) -> bool:
        """Whether it starts further processes."""
        return self.check.slow

    def __str__(self) -> str:
        return f"{self.part.kind.name} {self.part.name}: {self.check.name}"

    def run(self) -> None:
        """Try the part with all its examples. ConformanceError: it fails with one. NotTriedError: with none was there
        anything to try."""
        from zoo.testing.state import restored

        with tempfile.TemporaryDirectory() as scratch, restored():
            examples = [self.options] if self.options is not None else self._examples(Path(scratch) / "examples")
            reasons = [self._try(options, Path(scratch) / str(place)) for place, options in enumerate(examples)]
        if all(reasons):
            raise NotTriedError(reasons[0])

    def _examples(self, folder: Path) -> Sequence[Options]:
        folder.mkdir()
        try:
            found = self.part.list_examples(folder)
        except (NotTriedError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise _no_examples(f"{type(error).__name__}: {error}") from error
        if not found:
            raise _no_examples("none")
        return found

    def _try(self, options: Options, folder: Path) -> str:
        """Return why nothing could be tried, or ""."""
        folder.mkdir()
        try:
            self.check(Trial(self.part, options, folder))
        except NotTriedError as reason:
            return str(reason) or "no reason given"
        except ConformanceError as error:
            error.add_note(f"with {options!r}")
            raise
        return ""


def _no_examples(came: str) -> ConformanceError:
    why = "the checks build the part with them; name a function with `examples=` where there are no defaults"
    return ConformanceError("examples", "options to build the part with", came, why)


AnyCase = Case | PluginCase
"""What a plugin is held to: checks of itself, and of each of its parts."""


def cases_of(part: Part, options: Options | None = None, *, slow: bool = True) -> tuple[Case, ...]:
    """Return a case for each check of a part; without `slow` those that start processes are left out."""
    return tuple(Case(part, check, options) for check in checks_of(part.kind) if slow or not check.slow)


def all_cases(plugin: Plugin) -> tuple[AnyCase, ...]:
    """Return every check of a plugin: those of itself, and those of its parts."""
    return (*plugin_cases(plugin), *(case for part in plugin.parts for case in cases_of(part)))


def hold_to(kind: kinds.Kind, part: Part, options: Options | Mapping[str, Any] | None, slow: bool) -> None:
    """Run every check of a kind on a part. ConformanceError: the first that fails names all the others; TypeError: the
    part is of another kind."""
    if part.kind is not kind:
        raise TypeError(f"{part.name!r} is a {part.kind.name}, not a {kind.name}")
    chosen = part.options.model_validate(options) if isinstance(options, Mapping) else options
    failed: list[ConformanceError] = []
    for case in cases_of(part, chosen, slow=slow):
        try:
            case.run()
        except NotTriedError:
            continue
        except ConformanceError as error:
            failed.append(error)
    if failed:
        for other in failed[1:]:
            failed[0].add_note(str(other))
        raise failed[0]


def find_plugins(registry: Registry, name: str) -> tuple[Plugin, ...]:
    """Return the plugins of that entry-point or distribution name, slow ones waited for. PluginError: none has it."""
    found = [one for one in registry.plugins if is_among((name,), one.owner.plugin, one.owner.distribution)]
    if not found:
        known = [plugin.owner.plugin for plugin in registry.plugins]
        raise PluginError(f"there is no plugin {name!r}", hint=nearest(name, known))
    return tuple(plugin.awaited() for plugin in found)
