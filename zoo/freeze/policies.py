"""Built-in policies: pure functions from parameter names to rates (see `zoo.registry.contracts.Rates`).

Names are the model's: `backbone.layer1.0.conv1.weight`, `heads.main.linear.bias`. People write the backbone's own
prefixes ("layer1"), so `backbone.` is put before them.
"""

from collections.abc import Sequence

from zoo.errors import ZooError, nearest
from zoo.registry.builtin.freeze import StagesOptions, ZeroLrOptions
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


def _rates(names: Sequence[str], frozen: Sequence[str], rate: float | None) -> Rates:
    return {name: rate if any(under(name, prefix) for prefix in frozen) else 1.0 for name in names}


def _found(frozen: Sequence[str], names: Sequence[str], stages: Sequence[str]) -> list[str]:
    """Return the prefixes as the model spells them, each known to match a parameter."""
    found = [f"{BACKBONE}.{prefix}" for prefix in frozen]
    for prefix, full in zip(frozen, found, strict=True):
        if not any(under(name, full) for name in names):
            known = [stage.removeprefix(f"{BACKBONE}.") for stage in stages]
            what = f"freeze.frozen names {prefix!r}, and no parameter of the backbone lies under it"
            raise ZooError(what, where="[freeze]", hint=nearest(prefix, known))
    return found
