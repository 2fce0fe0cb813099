"""An optimiser's state by parameter name: what a checkpoint keeps of it, and how it comes back to the same bits.

Names are the model's without wrapper segments: what was kept under DDP or torch.compile comes back without them, or the
other way round.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import takewhile
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.errors import RunError
from zoo.recipe.schema import OptimTable
from zoo.shards import shard_like, whole_state
from zoo.weights.names import WRAPPERS, unwrapped

PLAIN = (bool, int, float, str)
HINT = "a resume keeps [optim] use and [freeze] as they were; or start a new run from these weights"
State = dict[str, Any]

FROM_RECIPE = frozenset(OptimTable.model_fields) | {"names", "params", "rate", "rates", "decays"}
"""What a group has from the recipe and the Plan. It is not kept: a resume may change it."""


def optimizer_tensors(optimizer: Optimizer, keep: bool = True) -> dict[str, Tensor]:
    """Return the whole tensors of the optimiser's state: {"layer.weight/exp_avg": tensor}, of group 0 under "#0/step".

    RunError: it keeps something that is neither a tensor nor a plain number, which a checkpoint could not hold.
    """
    return whole_state({name: value for name, value in _state(optimizer) if isinstance(value, Tensor)}, keep)


def optimizer_numbers(optimizer: Optimizer) -> dict[str, Any]:
    """Return what else the optimiser keeps: its name, its number of groups, and plain numbers by parameter or group."""
    numbers = {name: value for name, value in _state(optimizer) if isinstance(value, PLAIN)}
    return {"use": type(optimizer).__name__, "groups": len(optimizer.param_groups), "state": numbers}


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Give the optimiser back what `optimizer_tensors` and `optimizer_numbers` gave, each tensor in its own layout.

    RunError: they are another optimiser's, of other groups, or of a parameter that this one lacks.
    """
    _check_same(optimizer, numbers, any(name.startswith("#") for name in tensors))
    parameters = dict(_named(optimizer))
    groups = {f"#{index}": group for index, group in enumerate(optimizer.param_groups)}
    plain = numbers["state"]
    if numbers["groups"] != len(groups):  # what is left by group are options, alike in all of them
        plain = {name: value for name, value in plain.items() if not name.startswith("#")}
    for name, state in _by_name({**tensors, **plain}, {*parameters, *groups}).items():
        if name in groups:
            groups[name].update(state)
        else:
            own = parameters[name]
            optimizer.state[own] = {key: _like(key, value, own) for key, value in state.items()}


def _check_same(optimizer: Optimizer, numbers: Mapping[str, Any], by_group: bool) -> None:
    """How many groups there are counts only where a group has a state of its own."""
    for what, old, new in (
        ("optimiser", numbers["use"], type(optimizer).__name__),
        ("number of parameter groups", numbers["groups"], len(optimizer.param_groups)),
    ):
        if old != new and (by_group or what == "optimiser"):
            raise RunError(f"the {what} was {old} in the checkpoint and is {new} now", hint=HINT)


def _by_name(kept: Mapping[str, Any], known: Collection[str]) -> dict[str, State]:
    """Return what was kept by the names that the optimiser knows. RunError: something has no place of its own there."""
    found: dict[str, State] = {}
    for full, value in kept.items():
        name, _, key = full.rpartition("/")
        found.setdefault(name, {})[key] = value
    placed: dict[str, State] = {}
    for name, state in found.items():
        own = name if name in known else unwrapped(name)
        if own not in known or own in placed:
            raise RunError(f"the checkpoint has an optimiser state of {name}, which is not trained now", hint=HINT)
        placed[own] = state
    return placed


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
    """Return each parameter by its name without wrapper segments.

    Names that would then be one have a module truly called `module`: of them only what is around the whole model goes.
    """
    names = [name for group in optimizer.param_groups for name in group["names"]]
    alike, outer = Counter(map(unwrapped, names)), _outer(names)
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            bare = unwrapped(name)
            yield (bare if alike[bare] == 1 else ".".join(name.split(".")[outer:])), parameter


def _outer(names: Iterable[str]) -> int:
    """Return how many wrapper segments all names begin with."""
    places = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return len(list(takewhile(lambda parts: set(parts) == {parts[0]} <= WRAPPERS, places)))


def _like(key: str, value: Any, parameter: nn.Parameter) -> Any:
    """A running average has its parameter's strides: a sum over it must add in the same order after a resume.

    Like torch, leave a step count where it is: on the CPU it is read without waiting for the device.
    """
    if not isinstance(value, Tensor) or key == "step":
        return value
    if not value.dim() or value.shape != parameter.shape:
        return value.to(parameter.device)
    own = shard_like(value, parameter)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(own)
