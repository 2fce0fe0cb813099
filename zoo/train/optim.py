"""Optimisers of torch and timm by name, with a group for every rate and weight decay of the Plan."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from zoo.errors import ZooError, nearest
from zoo.freeze.plan import Phase
from zoo.recipe.schema import OptimTable

UNFIT = (Optimizer, torch.optim.LBFGS, torch.optim.SparseAdam)
"""The base class, one that computes the loss itself, and one for sparse gradients."""


def torch_optimizers() -> dict[str, type[Optimizer]]:
    """Return torch's optimisers by lower-case name, those that the loop can step."""
    found = {name.lower(): value for name, value in vars(torch.optim).items() if inspect.isclass(value)}
    return {name: value for name, value in found.items() if issubclass(value, Optimizer) and value not in UNFIT}


def optimizer_names() -> list[str]:
    """Return every name that `[optim] use` takes; where torch and timm both have one, torch's counts."""
    import timm.optim

    return sorted({*torch_optimizers(), *timm.optim.list_optimizers()})


def make_optimizer(table: OptimTable, model: nn.Module, phases: Sequence[Phase]) -> Optimizer:
    """Return the optimiser over every parameter that some phase has in it, each in exactly one group; see `enter`.

    A group has `names` (the model's own) and, for each phase, its `rates` and `decays`. ZooError: no optimiser has that
    name, or it does not take an option that the recipe sets.
    """
    groups = make_groups(model, phases, table.weight_decay)
    options = table.model_dump(exclude={"use", "weight_decay", "no_decay"}, exclude_none=True)
    build = _find(table.use)
    try:
        return build(groups, **options)
    except (TypeError, ValueError, AssertionError, ImportError) as error:  # timm asserts where CUDA or a package lacks
        hint = "leave out the keys it does not take, or choose another optimiser"
        raise ZooError(f"optimiser {table.use!r} refuses its options: {error}", where="[optim]", hint=hint) from error


def make_groups(model: nn.Module, phases: Sequence[Phase], weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups, as of the first phase: what has the same rate and decay in every phase is one group.

    Every parameter that ever trains is there from the first step on, so its state is never lost or made anew.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        rates = tuple(phase.plan.rates[name] for phase in phases)
        if all(rate is None for rate in rates):
            continue
        decays = tuple(weight_decay if name in phase.plan.decayed else 0.0 for phase in phases)
        empty = {"params": [], "names": [], "rates": rates, "decays": decays}
        group = groups.setdefault((rates, decays), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    for group in groups.values():
        _enter(group, 0)
    return list(groups.values())


def enter(optimizer: Optimizer, place: int) -> None:
    """Give every group the rate and weight decay of the phase `place` (from 0), and forget gradients of the last one.

    What the phase leaves out keeps its state, and is not stepped because it gets no gradient.
    """
    for group in optimizer.param_groups:
        _enter(group, place)
    optimizer.zero_grad(set_to_none=True)


def _enter(group: dict[str, Any], place: int) -> None:
    group["rate"] = group["rates"][place] or 0.0
    group["weight_decay"] = group["decays"][place]


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group its share of the run's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]


def group_names(optimizer: Optimizer) -> tuple[str, ...]:
    """Return a name for every group: its multiple of the run's rate, "x0.1", in each phase, "x0_x0.1".

    Groups that differ in weight decay alone have the same.
    """
    return tuple("_".join(f"x{rate or 0:g}" for rate in group["rates"]) for group in optimizer.param_groups)


def _find(name: str) -> Callable[..., Optimizer]:
    known = torch_optimizers()
    if name in known:
        return known[name]
    import timm.optim

    if name not in timm.optim.list_optimizers():
        raise ZooError(f"there is no optimiser {name!r}", where="optim.use", hint=nearest(name, optimizer_names()))
    return lambda groups, **options: _from_timm(name, groups, options)


def _from_timm(name: str, groups: list[dict[str, Any]], options: Mapping[str, Any]) -> Optimizer:
    import timm.optim

    _check_taken(name, options)
    optimizer: Optimizer = timm.optim.create_optimizer_v2(groups, opt=name, **options)
    return optimizer


def _check_taken(name: str, options: Mapping[str, Any]) -> None:
    """Refuse what timm would drop without a word."""
    import timm.optim

    about = timm.optim.get_optimizer_info(name)
    taken = {"momentum": about.has_momentum, "eps": about.has_eps, "betas": about.has_betas}
    for key in options:
        if not taken.get(key, True):
            raise TypeError(f"it takes no {key}")
