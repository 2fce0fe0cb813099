"""Built-in policies: pure functions from a layout to rates (see `zoo.registry.contracts.Rates`), alike in every epoch.

Those whose rates change from epoch to epoch are in `zoo.freeze.thawing`.
"""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from zoo.errors import ZooError, nearest
from zoo.freeze.names import find_prefixes, head_name, in_heads, longest, short, under
from zoo.registry.builtin.freeze import (
    DiscriminativeOptions,
    HeadOptions,
    LayerDecayOptions,
    PatternsOptions,
    StagesOptions,
    ZeroLrOptions,
)
from zoo.registry.contracts import FreezePolicy, Layout, Rates
from zoo.registry.parts import NoOptions


def none(_: NoOptions) -> FreezePolicy:
    """Train everything at the run's rate."""
    return lambda layout, epoch: dict.fromkeys(layout.parameters, 1.0)


def head(options: HeadOptions) -> FreezePolicy:
    """Train the heads, or those that `options.train` names; all else gets requires_grad=False.

    ZooError: there is no head of such a name.
    """

    def policy(layout: Layout, epoch: int) -> Rates:
        named = {head_name(prefix): prefix for prefix in layout.heads}
        for name in options.train:
            if name not in named:
                raise ZooError(
                    f"freeze.train names {name!r}, and no head is called so", "[freeze]", nearest(name, named)
                )
        trained = [named[name] for name in options.train or named]
        return {n: 1.0 if any(under(n, prefix) for prefix in trained) else None for n in layout.parameters}

    return policy


def stages(options: StagesOptions) -> FreezePolicy:
    """Freeze what lies under `options.frozen` (requires_grad=False); ZooError when a prefix matches nothing."""
    return lambda layout, epoch: _rates(layout, find_prefixes(layout, options.frozen, "frozen"), None)


def zero_lr(options: ZeroLrOptions) -> FreezePolicy:
    """Keep what lies under `options.frozen` (the backbone when empty) in the optimiser, at a rate of zero."""
    return lambda layout, epoch: _rates(
        layout, find_prefixes(layout, options.frozen, "frozen") or list(layout.stages), 0.0
    )


def patterns(options: PatternsOptions) -> FreezePolicy:
    """Give every parameter the rate of the first glob that matches its name.

    ZooError: a parameter that no glob matches, or a glob that decides nothing.
    """
    return lambda layout, epoch: _first_matches(options.rules, layout)


def discriminative(options: DiscriminativeOptions) -> FreezePolicy:
    """Give what lies under a prefix its rate, the rest of the backbone `options.rest`, and the heads the run's.

    Universal Language Model Fine-tuning for Text Classification (Howard and Ruder 2018), section 3.2. ZooError: a
    prefix that matches nothing.
    """

    def policy(layout: Layout, epoch: int) -> Rates:
        found = find_prefixes(layout, list(options.rates), "rates")
        rates = dict(zip(found, options.rates.values(), strict=True))

        def rate(name: str) -> float | str:
            prefix = longest(name, rates)
            return rates[prefix] if prefix else 1.0 if in_heads(layout, name) else options.rest

        return {name: as_rate(rate(name)) for name in layout.parameters}

    return policy


def layer_decay(options: LayerDecayOptions) -> FreezePolicy:
    """Give each layer `options.decay` times the rate of the one above it, the heads the run's, none below `min_scale`.

    rate = decay ** (deepest - depth), as BEiT (Bao, Dong, Piao and Wei 2021, appendix H) and timm's
    `param_groups_layer_decay` have it. What no layer counts, such as a last norm, has the depth of the heads or the one
    before, as timm's `group_matcher` says.
    """

    def policy(layout: Layout, epoch: int) -> Rates:
        deepest = max(layout.depths.values(), default=0)
        return {
            name: max(options.min_scale, options.decay ** (deepest - layout.depths[name])) for name in layout.parameters
        }

    return policy


def bitfit(_: NoOptions) -> FreezePolicy:
    """Train the backbone's biases and the heads; everything else gets requires_grad=False.

    BitFit (Ben Zaken, Ravfogel and Goldberg 2021). In a network of batch norms those are the norms' own biases.
    """
    return lambda layout, epoch: {
        name: 1.0 if in_heads(layout, name) or name.endswith(".bias") else None for name in layout.parameters
    }


def norm_only(_: NoOptions) -> FreezePolicy:
    """Train the weights and biases of the backbone's normalisation layers and the heads; the rest is frozen.

    Training BatchNorm and Only BatchNorm (Frankle, Schwab and Morcos 2020). ZooError: the backbone has no such layer.
    """

    def policy(layout: Layout, epoch: int) -> Rates:
        trained = {name for name in layout.norms if not in_heads(layout, name)}
        if not trained:
            hint = 'use "bitfit", "head" or "stages"'
            raise ZooError("the backbone has no normalisation layer with parameters", where="[freeze] use", hint=hint)
        return {n: 1.0 if in_heads(layout, n) or n in trained else None for n in layout.parameters}

    return policy


def as_rate(rate: float | str) -> float | None:
    """Return a recipe's rate as a Plan has it: "frozen" is None."""
    return rate if isinstance(rate, float | int) else None


def _rates(layout: Layout, frozen: Sequence[str], rate: float | None) -> Rates:
    return {
        name: rate if any(under(name, prefix) for prefix in frozen) and not in_heads(layout, name) else 1.0
        for name in layout.parameters
    }


def _first_matches(rules: Sequence[tuple[str, float | str]], layout: Layout) -> Rates:
    own = {name: short(layout, name) for name in layout.parameters}
    deciding = {
        name: next((place for place, (glob, _) in enumerate(rules) if fnmatchcase(text, glob)), None)
        for name, text in own.items()
    }
    _require_used(rules, deciding.values(), own.values())
    uncovered = [own[name] for name, place in deciding.items() if place is None]
    if uncovered:
        shown = ", ".join(uncovered[:5]) + (f", … ({len(uncovered)})" if len(uncovered) > 5 else "")
        hint = 'let the last rule be ["*", "frozen"] or ["*", 1.0]'
        raise ZooError(f"no rule of freeze.rules matches {shown}", where="[freeze]", hint=hint)
    return {name: as_rate(rules[place][1]) for name, place in deciding.items() if place is not None}


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
