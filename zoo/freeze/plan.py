"""The Plan: what trains at which rate, which statistics stay put, and what stays in eval mode; and for how long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from zoo.errors import ZooError
from zoo.freeze.decay import decayed
from zoo.freeze.layout import can_track, statistics
from zoo.freeze.names import in_heads, some, under
from zoo.registry.contracts import FreezePolicy, Layout, Rates

BatchNormRule = Literal["fixed", "track", "auto"]
ModeRule = Literal["eval", "train", "auto"]


@dataclass(frozen=True)
class Plan:
    """What is trained, for every name.

    `rates` covers every parameter. `fixed_norms` are the layers whose running statistics are used and never updated,
    `tracked_norms` those that use the batch's and update theirs. `still` are the modules that stay in eval
    mode (no dropout, no drop-path) whatever calls `train()`; tracked norms in them do not. `decayed` are the parameters
    that weight decay shrinks.
    """

    rates: Rates
    fixed_norms: frozenset[str]
    tracked_norms: frozenset[str]
    still: frozenset[str]
    decayed: frozenset[str]

    def trained(self) -> frozenset[str]:
        """Return the names of the parameters that move."""
        return frozenset(name for name, rate in self.rates.items() if rate)

    def drifting(self) -> frozenset[str]:
        """Return the norms whose statistics move though no parameter of theirs does."""
        return frozenset(name for name in self.tracked_norms if not trains(name, self.rates))

    def frozen(self, model: nn.Module) -> tuple[str, ...]:
        """Return what may not move: parameters without a rate or at rate zero, and buffers.

        Of those: the statistics of fixed norms, and whatever else the modules hold that stay in eval mode.
        """
        buffers = (name for name, _ in model.named_buffers() if self._holds(name.rpartition(".")[0]))
        return (*(name for name, rate in self.rates.items() if not rate), *buffers)

    def _holds(self, module: str) -> bool:
        if module in self.tracked_norms:
            return False
        return module in self.fixed_norms or any(under(module, still) for still in self.still)


@dataclass(frozen=True)
class Phase:
    """A plan and the epochs in which it holds: from `first` on, up to but not including `end`."""

    first: int
    end: int
    plan: Plan


@dataclass(frozen=True)
class Rules:
    """What a recipe says beside the policy: the backbone's statistics and mode, and what weight decay leaves alone."""

    bn: BatchNormRule = "auto"
    mode: ModeRule = "auto"
    no_decay: tuple[str, ...] = ()


def make_phases(model: nn.Module, layout: Layout, policy: FreezePolicy, rules: Rules = Rules()) -> tuple[Phase, ...]:
    """Return the phases of a run of `layout.epochs`, at least one. ZooError: see `make_plan`."""
    starts: list[tuple[int, Rates]] = []
    for epoch in range(max(1, layout.epochs)):
        rates = policy(layout, epoch)
        if not starts or rates != starts[-1][1]:
            starts.append((epoch, rates))
    ends = [*(first for first, _ in starts[1:]), max(1, layout.epochs)]
    return tuple(
        Phase(first, end, make_plan(model, layout, rates, rules))
        for (first, rates), end in zip(starts, ends, strict=True)
    )


def phase_at(phases: Sequence[Phase], epoch: int) -> Phase:
    """Return the phase of an epoch (from 0); the last one for all that follow."""
    return next((phase for phase in phases if phase.first <= epoch < phase.end), phases[-1])


def make_plan(model: nn.Module, layout: Layout, rates: Rates, rules: Rules = Rules()) -> Plan:
    """Return the plan for these rates.

    ZooError: they leave a parameter out, name one too many, or give one that has two names two rates; nothing trains;
    `rules.bn` is "track" and a layer cannot; or an exclusion from weight decay matches nothing.
    """
    _check_cover(layout.parameters, rates)
    _check_shared(model, rates)
    fixed, tracked = _split_norms(model, layout, rates, rules.bn)
    still = {part for part in _parts(layout) if _is_still(layout, part, rates, rules.mode) and _is_module(model, part)}
    shrunk = {name for name in decayed(model, layout, rules.no_decay) if rates[name]}
    return Plan(rates, fixed, tracked, frozenset(still), frozenset(shrunk))


def _split_norms(
    model: nn.Module, layout: Layout, rates: Rates, bn: BatchNormRule
) -> tuple[frozenset[str], frozenset[str]]:
    """The rule is the backbone's; in heads statistics follow the parameters."""
    fixed, tracked = set[str](), set[str]()
    for name, module in statistics(model).items():
        rule = "auto" if in_heads(layout, name) else bn
        if rule == "track" and not can_track(module):
            what = f"{name} is a {type(module).__name__}, which has fixed statistics"
            raise ZooError(what, where="freeze.bn", hint='use bn = "auto" or "fixed"')
        follows = can_track(module) and trains(name, rates)
        (tracked if rule == "track" or (rule == "auto" and follows) else fixed).add(name)
    return frozenset(fixed), frozenset(tracked)


def _parts(layout: Layout) -> tuple[str, ...]:
    """What has a mode: the stages, the heads, and the backbone as a whole for what lies in no stage (a dropout)."""
    whole = layout.root.rstrip(".")
    return (*layout.stages, *layout.heads, *([whole] if whole else []))


def _is_still(layout: Layout, part: str, rates: Rates, mode: ModeRule) -> bool:
    rule = "auto" if part in layout.heads else mode
    return rule == "eval" or (rule == "auto" and not trains(part, rates))


def trains(prefix: str, rates: Rates) -> bool:
    """Return whether a parameter under `prefix` moves; for what has none of its own, what its parent does."""
    own = [rate for name, rate in rates.items() if under(name, prefix)]
    if own or "." not in prefix:
        return any(own)
    return trains(prefix.rpartition(".")[0], rates)


def _is_module(model: nn.Module, name: str) -> bool:
    """A stage may be a bare parameter, such as a class token."""
    return any(module == name for module, _ in model.named_modules())


def _check_shared(model: nn.Module, rates: Rates) -> None:
    """One tensor under two names trains at both or at none."""
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = first.setdefault(id(parameter), name)
        if rates[name] != rates[other]:
            what = f"{other} and {name} are one parameter, and the freeze policy gives it two rates"
            raise ZooError(what, where="[freeze]", hint="freeze both of them or neither")


def _check_cover(names: Sequence[str], rates: Mapping[str, float | None]) -> None:
    known = set(names)
    missing = [name for name in names if name not in rates]
    foreign = [name for name in rates if name not in known]
    for what, listed in (("leaves out", missing), ("names what is not a parameter:", foreign)):
        if listed:
            raise ZooError(
                f"the freeze policy {what} {some(listed)}", where="[freeze]", hint="a policy covers every parameter"
            )
    if not any(rates.values()):
        raise ZooError(
            "the freeze policy lets nothing train", where="[freeze]", hint="freeze less, or use `zoo evaluate`"
        )
