"""An optimiser's state by parameter name: what a checkpoint keeps of it, and how it comes back to the same bits."""

from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.errors import RunError
from zoo.recipe.schema import OptimTable

PLAIN = (bool, int, float, str)

FROM_RECIPE = frozenset(OptimTable.model_fields) | {"names", "params", "rate"}
"""What a group has from the recipe and the Plan. It is not kept: a resume may change it."""


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the tensors of the optimiser's state: {"layer.weight/exp_avg": tensor}, those of group 0 under "#0/step".

    RunError: it keeps something that is neither a tensor nor a plain number, which a checkpoint could not hold.
    """
    return {name: value for name, value in _state(optimizer) if isinstance(value, Tensor)}


def optimizer_numbers(optimizer: Optimizer) -> dict[str, Any]:
    """Return what else the optimiser keeps: its name, its number of groups, and plain numbers by parameter or group."""
    numbers = {name: value for name, value in _state(optimizer) if isinstance(value, PLAIN)}
    return {"use": type(optimizer).__name__, "groups": len(optimizer.param_groups), "state": numbers}


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Give the optimiser back what `optimizer_tensors` and `optimizer_numbers` gave, each tensor in its own layout.

    RunError: they are another optimiser's, or of other groups.
    """
    _check_same(optimizer, numbers)
    by_name: dict[str, dict[str, Any]] = {}
    for full, value in {**tensors, **numbers["state"]}.items():
        name, _, key = full.rpartition("/")
        by_name.setdefault(name, {})[key] = value
    for name, parameter in _named(optimizer):
        if name in by_name:
            optimizer.state[parameter] = {key: _like(key, value, parameter) for key, value in by_name[name].items()}
    for index, group in enumerate(optimizer.param_groups):
        group.update(by_name.get(f"#{index}", {}))


def _check_same(optimizer: Optimizer, numbers: Mapping[str, Any]) -> None:
    for what, old, new in (
        ("optimiser", numbers["use"], type(optimizer).__name__),
        ("number of parameter groups", numbers["groups"], len(optimizer.param_groups)),
    ):
        if old != new:
            hint = "a resume keeps [optim] use and [freeze] as they were; or start a new run from these weights"
            raise RunError(f"the {what} was {old} in the checkpoint and is {new} now", hint=hint)


def _state(optimizer: Optimizer) -> Iterable[tuple[str, Any]]:
    for name, parameter in _named(optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, (Tensor, NoneType, *PLAIN)):
                what = f"optimiser {type(optimizer).__name__} keeps {key!r} of type {type(value).__name__}"
                raise RunError(f"{what}, which a checkpoint cannot hold", "[optim] use", "choose another optimiser")
            yield f"{name}/{key}", value
    for index, group in enumerate(optimizer.param_groups):
        yield from ((f"#{index}/{key}", value) for key, value in group.items() if key not in FROM_RECIPE)


def _named(optimizer: Optimizer) -> Iterable[tuple[str, nn.Parameter]]:
    for group in optimizer.param_groups:
        yield from zip(group["names"], group["params"], strict=True)


def _like(key: str, value: Any, parameter: nn.Parameter) -> Any:
    """A running average has its parameter's strides: a sum over it must add in the same order after a resume.

    Like torch, leave a step count where it is: on the CPU it is read without waiting for the device.
    """
    if not isinstance(value, Tensor) or key == "step":
        return value
    if not value.dim() or value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
