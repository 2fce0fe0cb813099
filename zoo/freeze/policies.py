"""Built-in policies: pure functions from parameter names to rates (see `zoo.registry.contracts.Rates`).

Names are the model's: `backbone.layer1.0.conv1.weight`, `heads.main.linear.bias`. People write the backbone's own
prefixes ("layer1"), so `backbone.` is put before them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from zoo.errors import ZooError, nearest
from zoo.registry.builtin.freeze import DiscriminativeOptions, PatternsOptions, StagesOptions, ZeroLrOptions
from zoo.registry.contracts import FreezePolicy, Rates
from zoo.registry.parts import NoOptions

BACKBONE = "backbone"


def under(name: str, prefix: str) -> bool:
    """Return whether a dotted name is `prefix` or lies below it: `layer1.0` is under `layer1`, `layer10` is not."""
    return name == prefix or name.startswith(f"{prefix}.")


def none(_: NoOptions) -> FreezePolicy:
    """Train everything at the run's rate."""
    return lambda names, stages, epoch: dict.fromkeys(names, 1.0)


def head(_: NoOptions) -> FreezePolicy:
    """Train the heads; the backbone's parameters get requires_grad=False."""
    return lambda names, stages, epoch: _rates(names, [BACKBONE], None)


def stages(options: StagesOptions) -> FreezePolicy:
    """Freeze what lies under `options.frozen` (requires_grad=False); ZooError when a prefix matches nothing."""
    return lambda names, stages, epoch: _rates(names, _found(options.frozen, names, stages), None)


def zero_lr(options: ZeroLrOptions) -> FreezePolicy:
    """Keep what lies under `options.frozen` (the backbone when empty) in the optimiser, at a rate of zero."""
    return lambda names, stages, epoch: _rates(names, _found(options.frozen, names, stages) or [BACKBONE], 0.0)


def patterns(options: PatternsOptions) -> FreezePolicy:
    """Give every parameter the rate of the first glob that matches its name.

    ZooError: a parameter that no glob matches, or a glob that decides nothing.
    """
    return lambda names, stages, epoch: _first_matches(options.rules, names)


def discriminative(options: DiscriminativeOptions) -> FreezePolicy:
    """Give what lies under a prefix its rate, the rest of the backbone `options.rest`, and the heads the run's.

    Universal Language Model Fine-tuning for Text Classification (Howard and Ruder 2018), section 3.2. ZooError: a
    prefix that matches nothing.
    """

    def policy(names: Sequence[str], stages: Sequence[str], epoch: int) -> Rates:
        found = _found(list(options.rates), names, stages, "rates")
        rates = {BACKBONE: options.rest, **dict(zip(found, options.rates.values(), strict=True))}
        return {name: _number(_longest(name, rates)) for name in names}

    return policy


def bitfit(_: NoOptions) -> FreezePolicy:
    """Train the backbone's biases and the heads; everything else gets requires_grad=False.

    BitFit (Ben Zaken, Ravfogel and Goldberg 2021). In a network of batch norms those are the norms' own biases.
    """
    return lambda names, stages, epoch: {
        name: None if under(name, BACKBONE) and not name.endswith(".bias") else 1.0 for name in names
    }


def _number(rate: float | str) -> float | None:
    return rate if isinstance(rate, float | int) else None


def _longest(name: str, rates: Mapping[str, float | str]) -> float | str:
    fitting = [prefix for prefix in rates if under(name, prefix)]
    return rates[max(fitting, key=len)] if fitting else 1.0


def _first_matches(rules: Sequence[tuple[str, float | str]], names: Sequence[str]) -> Rates:
    short = {name: name.removeprefix(f"{BACKBONE}.") for name in names}
    deciding = {
        name: next((place for place, (glob, _) in enumerate(rules) if fnmatchcase(own, glob)), None)
        for name, own in short.items()
    }
    _require_used(rules, deciding.values(), short.values())
    uncovered = [short[name] for name, place in deciding.items() if place is None]
    if uncovered:
        shown = ", ".join(uncovered[:5]) + (f", … ({len(uncovered)})" if len(uncovered) > 5 else "")
        hint = 'let the last rule be ["*", "frozen"] or ["*", 1.0]'
        raise ZooError(f"no rule of freeze.rules matches {shown}", where="[freeze]", hint=hint)
    return {name: _number(rules[place][1]) for name, place in deciding.items() if place is not None}


def _require_used(
    rules: Sequence[tuple[str, float | str]], deciding: Iterable[int | None], names: Collection[str]
) -> None:
    used = set(deciding)
    for place, (glob, _) in enumerate(rules):
        if place in used:
            continue
        if any(fnmatchcase(name, glob) for name in names):
            what = f"freeze.rules has {glob!r} after rules that match all that it does"
            raise ZooError(what, where="[freeze]", hint="put the narrower rule first; the first match wins")
        raise ZooError(f"freeze.rules has {glob!r}, which matches no parameter", "[freeze]", nearest(glob, names))


def _rates(names: Sequence[str], frozen: Sequence[str], rate: float | None) -> Rates:
    return {name: rate if any(under(name, prefix) for prefix in frozen) else 1.0 for name in names}


def _found(frozen: Sequence[str], names: Sequence[str], stages: Sequence[str], key: str = "frozen") -> list[str]:
    """Return the prefixes as the model spells them, each known to match a parameter."""
    found = [f"{BACKBONE}.{prefix}" for prefix in frozen]
    for prefix, full in zip(frozen, found, strict=True):
        if not any(under(name, full) for name in names):
            known = [stage.removeprefix(f"{BACKBONE}.") for stage in stages]
            what = f"freeze.{key} names {prefix!r}, and no parameter of the backbone lies under it"
            raise ZooError(what, where="[freeze]", hint=nearest(prefix, known))
    return found
