"""The Plan: for one epoch, what trains at which rate, which statistics stay put, and what stays in eval mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.errors import ZooError
from zoo.freeze.policies import BACKBONE, under
from zoo.registry.contracts import FreezePolicy, Rates

BatchNormRule = Literal["fixed", "track", "auto"]


@dataclass(frozen=True)
class Plan:
    """What is trained in an epoch, for every name.

    `rates` covers every parameter. `fixed_norms` are the batch norms whose running statistics are used and
    never updated. `still` are the outermost modules that stay in eval mode (no dropout, no drop-path)
    whatever calls `train()`.
    """

    rates: Rates
    fixed_norms: frozenset[str]
    still: frozenset[str]

    def trained(self) -> frozenset[str]:
        """Return the names of the parameters that move."""
        return frozenset(name for name, rate in self.rates.items() if rate)

    def frozen(self, model: nn.Module) -> tuple[str, ...]:
        """Return the names of the parameters that do not move, and of the buffers of the fixed norms."""
        buffers = (name for name, _ in model.named_buffers() if name.rpartition(".")[0] in self.fixed_norms)
        return (*(name for name, rate in self.rates.items() if not rate), *buffers)


def make_plan(model: nn.Module, stages: Sequence[str], policy: FreezePolicy, bn: BatchNormRule, epoch: int) -> Plan:
    """Return the plan of `epoch`. ZooError: the policy left a parameter out, named one too many, or nothing trains."""
    names = [name for name, _ in model.named_parameters()]
    rates = policy(names, stages, epoch)
    _check_cover(names, rates)
    norms = fixed_norms(model, rates, bn)
    still = frozenset() if bn == "track" else frozenset(stage for stage in stages if not _trains(stage, rates))
    return Plan(rates, norms, frozenset(name for name in still if _is_module(model, name)))


def fixed_norms(model: nn.Module, rates: Rates, bn: BatchNormRule) -> frozenset[str]:
    """Return the names of the backbone's batch norms whose statistics stay fixed under the rule `bn`."""
    norms = [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and under(name, BACKBONE)
    ]
    if bn == "track":
        return frozenset()
    return frozenset(norms if bn == "fixed" else (name for name in norms if not _trains(name, rates)))


def _trains(prefix: str, rates: Rates) -> bool:
    """Whether a parameter under `prefix` moves; for what has no parameters of its own, what its parent does."""
    own = [rate for name, rate in rates.items() if under(name, prefix)]
    if own or "." not in prefix:
        return any(own)
    return _trains(prefix.rpartition(".")[0], rates)


def _is_module(model: nn.Module, name: str) -> bool:
    """A stage may be a bare parameter, such as a class token."""
    return any(module == name for module, _ in model.named_modules())


def _check_cover(names: Sequence[str], rates: Mapping[str, float | None]) -> None:
    missing = [name for name in names if name not in rates]
    foreign = [name for name in rates if name not in set(names)]
    for what, listed in (("leaves out", missing), ("names what is not a parameter:", foreign)):
        if listed:
            shown = ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
            raise ZooError(
                f"the freeze policy {what} {shown}", where="[freeze]", hint="a policy covers every parameter"
            )
    if not any(rates.values()):
        raise ZooError(
            "the freeze policy lets nothing train", where="[freeze]", hint="freeze less, or use `zoo evaluate`"
        )
