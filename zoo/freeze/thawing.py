"""Policies that thaw as the run goes on: pure functions of the epoch, so that a resume lands in the right phase."""

from collections.abc import Mapping

from zoo.errors import ZooError
from zoo.freeze.names import find_prefixes, in_heads, longest
from zoo.freeze.policies import as_rate
from zoo.registry.builtin.freeze import GradualOptions, TwoPhaseOptions
from zoo.registry.contracts import FreezePolicy, Layout, Rates


def two_phase(options: TwoPhaseOptions) -> FreezePolicy:
    """Train the heads for `options.head_epochs`, then all: the backbone at `options.rate`, the heads at the run's.

    What fastai's `fine_tune` and torchvision's tutorials do by hand. ZooError: the run ends before the second phase.
    """

    def policy(layout: Layout, epoch: int) -> Rates:
        _require_reached(layout, {"the backbone": options.head_epochs})
        rate = options.rate if epoch >= options.head_epochs else None
        return {name: 1.0 if in_heads(layout, name) else rate for name in layout.parameters}

    return policy


def gradual(options: GradualOptions) -> FreezePolicy:
    """Thaw the backbone stage by stage, each at its rate from its epoch on; the heads train throughout.

    Universal Language Model Fine-tuning for Text Classification (Howard and Ruder 2018), sections 3.2 and 3.3: the last
    stage first, then one more every epoch; a stage's rate is that of the one above it over 2.6 there. ZooError: a
    prefix that matches nothing, or an epoch that the run does not reach.
    """

    def policy(layout: Layout, epoch: int) -> Rates:
        epochs, rates = _epochs(options, layout), _stage_rates(options, layout)
        _require_reached(layout, options.thaw)

        def rate(name: str) -> float | None:
            if in_heads(layout, name):
                return 1.0
            prefix = longest(name, epochs)
            thawed = prefix is not None and epoch >= epochs[prefix]
            of = longest(name, rates)
            return rates[of] if thawed and of is not None else None

        return {name: rate(name) for name in layout.parameters}

    return policy


def _epochs(options: GradualOptions, layout: Layout) -> dict[str, int]:
    """Each thawing prefix with its first epoch; every stage from the last one on when the recipe names none."""
    if options.thaw:
        return dict(zip(find_prefixes(layout, list(options.thaw), "thaw"), options.thaw.values(), strict=True))
    return {stage: options.every * place for place, stage in enumerate(reversed(layout.stages), 1)}


def _stage_rates(options: GradualOptions, layout: Layout) -> dict[str, float | None]:
    steps = {stage: place for place, stage in enumerate(reversed(layout.stages), 1)}
    rates: dict[str, float | None] = {stage: options.decay**place for stage, place in steps.items()}
    named = find_prefixes(layout, list(options.rates), "rates")
    return rates | {p: as_rate(rate) for p, rate in zip(named, options.rates.values(), strict=True)}


def _require_reached(layout: Layout, epochs: Mapping[str, int]) -> None:
    late = {name: start for name, start in epochs.items() if layout.epochs and start >= layout.epochs}
    if late:
        name, start = next(iter(late.items()))
        what = f"{name} begins to train with epoch {start + 1}, and the run ends with epoch {layout.epochs}"
        raise ZooError(what, where="[freeze]", hint="raise run.epochs, or let it thaw earlier")
