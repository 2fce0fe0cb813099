"""Optimisers of torch and timm by name, with a group for every rate and weight decay of the Plan."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from zoo.errors import ZooError, nearest
from zoo.recipe.schema import OptimTable
from zoo.registry.contracts import Rates

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


def make_optimizer(table: OptimTable, model: nn.Module, rates: Rates) -> Optimizer:
    """Return the optimiser over every parameter whose rate is not None, each in exactly one group.

    A group has `names` (the model's own), `rate` (its multiple of the run's rate) and the weight decay. ZooError: no
    optimiser has that name, or it does not take an option that the recipe sets.
    """
    groups = make_groups(model, rates, table.weight_decay)
    options = table.model_dump(exclude={"use", "weight_decay"}, exclude_none=True)
    build = _find(table.use)
    try:
        return build(groups, **options)
    except (TypeError, ValueError, AssertionError, ImportError) as error:  # timm asserts where CUDA or a package lacks
        hint = "leave out the keys it does not take, or choose another optimiser"
        raise ZooError(f"optimiser {table.use!r} refuses its options: {error}", where="[optim]", hint=hint) from error


def make_groups(model: nn.Module, rates: Rates, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups by (rate, decay). Biases and one-dimensional parameters are not decayed."""
    skipped = _not_decayed(model)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        rate = rates[name]
        if rate is None:
            continue
        decays = parameter.dim() > 1 and not name.endswith(".bias") and name not in skipped and rate > 0
        decay = weight_decay if decays else 0.0
        empty = {"params": [], "names": [], "rate": rate, "weight_decay": decay}
        group = groups.setdefault((rate, decays), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group its share of the run's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]


def _not_decayed(model: nn.Module) -> set[str]:
    """Names that a timm model asks to leave undecayed: position embeddings, class tokens, relative-position tables."""
    found: set[str] = set()
    for prefix, module in model.named_modules():
        listed: Callable[[], Iterable[str]] | None = getattr(module, "no_weight_decay", None)
        if callable(listed):
            found |= {f"{prefix}.{name}".lstrip(".") for name in listed()}
    return found


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
