"""Find plugins by their entry points, each in a quarantine of its own: a broken one never costs another its parts."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import Literal

from zoo.errors import PluginError, Problem, nearest
from zoo.installed import ONLY, Named, is_among, only, scan
from zoo.registry import api, deadline
from zoo.registry.collecting import collect
from zoo.registry.faults import describe
from zoo.registry.owner import OWN
from zoo.registry.owner import Owner as Owner
from zoo.registry.parts import Part

GROUP = "zoo"
VERBS = "zoo.commands"
State = Literal["ok", "broken", "blocked", "slow"]


@dataclass(frozen=True)
class OwnedPart:
    """A part and who offers it."""

    part: Part
    owner: Owner


@dataclass(frozen=True)
class Plugin:
    """What became of one plugin: its parts, or the reason why it gives none. `seconds` is its import and hook time.

    `where` (FILE:LINE) and `mend` go with a reason. `api` is what it says that it was built for, None for nothing.
    `shadowed` says where else its distribution lies. `work` is what still goes on where the state is "slow".
    """

    owner: Owner
    state: State
    parts: tuple[Part, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    where: str = ""
    mend: str = ""
    api: str | None = api.API
    shadowed: tuple[str, ...] = ()
    work: "deadline.Work[Plugin] | None" = field(default=None, compare=False, repr=False)

    def now(self) -> "Plugin":
        """Return what has become of it by now: a slow one may have come."""
        return (self.work and self.work.wait(0)) or self

    def awaited(self) -> "Plugin":
        """Return what becomes of it, waiting for a slow one as long as is worth it; says so on standard error."""
        return (self.work and deadline.wait_for(self.work, str(self.owner))) or self


@dataclass(frozen=True)
class Candidate:
    """A plugin not loaded yet: who it is and how to get its object, from the module `module`.

    `api` is what it was built for, None where it does not say. One that is not `hurried` is waited for, whatever it
    takes.
    """

    owner: Owner
    load: Callable[[], object]
    module: str = ""
    api: str | None = api.API
    shadowed: tuple[str, ...] = ()
    hurried: bool = True


def builtin_candidate(version: str) -> Candidate:
    """Return the plugin that declares zoo's own parts; it goes through the same steps as anyone's."""

    def load() -> object:
        from zoo.registry.builtin import plugin

        return plugin

    return Candidate(Owner(OWN[1], version, OWN[0]), load, "zoo", hurried=False)


def entry_point_candidates(without: Collection[Path] = (), blocked: Collection[str] = ()) -> list[Candidate]:
    """Return what the installed distributions name in the entry-point group `zoo`, ordered by distribution and name.

    Those that `ZOO_PLUGINS` or `blocked` leave out come as well: `discover` says of each that it is left out.
    PluginError: one of them names what is not installed.
    """
    found = scan((GROUP, api.GROUP, VERBS), without)
    _check_names(found, only() or (), f"{ONLY} (environment)")
    _check_names(found, blocked, "-p no:NAME")
    said = {(one.distribution, one.point.name): one.point.value for one in found if one.point.group == api.GROUP}
    return [
        Candidate(
            Owner(one.distribution, one.version, one.point.name),
            one.point.load,
            one.point.value.partition(":")[0].strip(),
            said.get((one.distribution, one.point.name)),
            one.shadowed,
        )
        for one in found
        if one.point.group == GROUP
    ]


def _check_names(found: Sequence[Named], names: Collection[str], where: str) -> None:
    """PluginError: `names` that nobody has, each with the nearest."""
    offers = [(one.point.name, one.distribution) for one in found if one.point.group != api.GROUP]
    unknown = [name for name in names if not any(is_among((name,), *offer) for offer in [*offers, OWN])]
    if unknown:
        known = {name for offer in offers for name in offer}
        what = "the plugin {0!r} is not installed"
        raise PluginError.of(Problem(what.format(name), where, nearest(name, known)) for name in unknown)


def left_out(owner: Owner, blocked: Sequence[str], chosen: Sequence[str] | None) -> str:
    """Return what leaves a plugin out: `-p no:NAME`, or `ZOO_PLUGINS=…` without it; "" when nothing does."""
    if owner.is_zoo:
        return ""
    if is_among(blocked, owner.plugin, owner.distribution):
        return f"-p no:{owner.plugin}"
    if chosen is not None and owner.file is None and not is_among(chosen, owner.plugin, owner.distribution):
        return f"{ONLY}={','.join(chosen)}"
    return ""


def discover(
    candidates: Iterable[Candidate], blocked: Sequence[str] = (), chosen: Sequence[str] | None = None
) -> tuple[Plugin, ...]:
    """Load every candidate that is not left out (by entry-point or distribution name) and collect its parts.

    One that takes too long is set aside as "slow" and goes on by itself. KeyboardInterrupt: Ctrl-C.
    """
    found: list[Plugin] = []
    left = deadline.PATIENCE
    with deadline.quiet():
        for candidate in candidates:
            plugin = _refused(candidate, left_out(candidate.owner, blocked, chosen))
            if plugin is None:
                started = monotonic()
                plugin = _load(candidate, max(left, deadline.LEAST))
                left -= monotonic() - started if plugin.state == "slow" else 0
            found.append(plugin)
        deadline.let_heavy_imports_end([plugin.work for plugin in found if plugin.work])
    return tuple(found)


def _refused(candidate: Candidate, out: str) -> Plugin | None:
    """What becomes of a plugin that is not to be imported; None for one that is."""
    owner, said, shadowed = candidate.owner, candidate.api, candidate.shadowed
    if out:
        return Plugin(owner, "blocked", reason=out, mend=f"leave away {out}", api=said, shadowed=shadowed)
    reason, mend = api.objection(said, owner)
    if reason:
        return Plugin(owner, "broken", reason=reason, mend=mend, api=said, shadowed=shadowed)
    return None


def _load(candidate: Candidate, patience: float) -> Plugin:
    owner = candidate.owner
    work = deadline.Work(partial(_examine, candidate), f"plugin {owner.plugin}")
    found = work.wait(patience if candidate.hurried else None)
    if found is not None:
        return found
    reason = f"its import has not ended after {patience:.1f} s, and goes on; whoever needs it waits for it"
    mend = f"{owner.report()}; until then -p no:{owner.plugin}"
    return Plugin(
        owner, "slow", (), reason, patience, mend=mend, api=candidate.api, shadowed=candidate.shadowed, work=work
    )


def _examine(candidate: Candidate) -> Plugin:
    owner = candidate.owner
    started = perf_counter()
    base = Plugin(owner, "ok", api=candidate.api, shadowed=candidate.shadowed)
    try:
        parts = collect(candidate.load(), owner.plugin)
    except BaseException as error:  # noqa: BLE001  a plugin may raise anything; Ctrl-C reaches the main thread alone
        fault = describe(error, candidate.module, owner)
        found = replace(base, state="broken", reason=fault.reason, where=fault.where, mend=fault.mend)
    else:
        found = replace(base, parts=parts)
    return replace(found, seconds=perf_counter() - started)
