"""Give a model on the meta device its values: the tensors themselves, without a copy."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import WeightsError
from zoo.weights.account import COUNTER

SHOWN = 5  # names in a line of an error
BUILD = "build the model on the CPU and load it there"


def assign(model: nn.Module, state: Mapping[str, Tensor], values: Mapping[str, Tensor], path: Path) -> None:
    """Put `values` in the place of the model's tensors, and compute the buffers that no file holds.

    `state` is the model's state dict.

    Parameters stay parameters, `requires_grad` stays, names that were one tensor stay one. WeightsError: two values for
    one tensor, or something would stay without a value; the model is then as it was.
    """
    modules = dict(model.named_modules())
    lacking = [name for name in state if name not in values]
    counters = {name: torch.zeros_like(state[name], device="cpu") for name in lacking if name.endswith(COUNTER)}
    given = {**values, **counters}
    _require_whole(modules, [name for name in lacking if name not in counters], path)
    twins = _twins(model, given, path)
    for name, value in given.items():
        if name not in twins:
            _put(modules, name, value)
    for name, owner in twins.items():
        _tie(model, name, owner)
    _compute_buffers(modules)
    _require_assigned(modules, given, path)


def shared_memory(name: str, owner: str, path: Path) -> WeightsError:
    """Return the refusal of two values for one tensor."""
    return WeightsError(
        f"{name} and {owner} are one tensor of the model, and the file's values for the two differ",
        where=str(path),
        hint="the file is of a model that does not share it: build that one",
    )


def _require_whole(modules: Mapping[str, nn.Module], lacking: list[str], path: Path) -> None:
    if lacking:
        what = f"the model is on the meta device, and the file has no values for {_some(lacking)}"
        raise WeightsError(what, where=str(path), hint=BUILD)
    without = [name for name, module in modules.items() if _has_hidden(module) and not _computes(module)]
    if without:
        what = f"the model is on the meta device, and only its code can compute the buffers of {_some(without)}"
        raise WeightsError(what, where=str(path), hint=BUILD)


def _put(modules: Mapping[str, nn.Module], name: str, value: Tensor) -> None:
    # Not load_state_dict: some modules refuse there what has no metadata, which no safetensors file has.
    path, _, last = name.rpartition(".")
    module = modules[path]
    if last in module._parameters:
        old = module._parameters[last]
        module._parameters[last] = nn.Parameter(value, requires_grad=old is not None and old.requires_grad)
    else:
        module._buffers[last] = value


def _has_hidden(module: nn.Module) -> bool:
    """Tell whether a module has meta buffers that are not part of its state."""
    hidden = module._non_persistent_buffers_set
    return any(name in hidden and buffer.is_meta for name, buffer in module.named_buffers(recurse=False))


def _computes(module: nn.Module) -> bool:
    return callable(getattr(module, "init_non_persistent_buffers", None))


def _compute_buffers(modules: Mapping[str, nn.Module]) -> None:
    """timm's modules with buffers of that kind say how they are computed."""
    for module in modules.values():
        if _has_hidden(module):
            names = [name for name in module._non_persistent_buffers_set if getattr(module, name) is not None]
            for name in names:
                setattr(module, name, torch.empty_like(getattr(module, name), device="cpu"))
            module.init_non_persistent_buffers()  # type: ignore[operator]  # see _computes


def _twins(model: nn.Module, given: Mapping[str, Tensor], path: Path) -> dict[str, str]:
    """Return the names that are the same parameter as one before, with that one's name."""
    owners: dict[int, str] = {}
    twins: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = owners.setdefault(id(parameter), name)
        if owner != name:
            if not torch.equal(given[owner], given[name]):
                raise shared_memory(name, owner, path)
            twins[name] = owner
    return twins


def _tie(model: nn.Module, name: str, owner: str) -> None:
    path, _, last = name.rpartition(".")
    setattr(model.get_submodule(path), last, model.get_parameter(owner))


def _require_assigned(modules: Mapping[str, nn.Module], given: Mapping[str, Tensor], path: Path) -> None:
    """The postcondition: the model holds the very tensors or equal ones, and nothing is left on the meta device."""
    own = {
        f"{prefix}.{name}".lstrip("."): tensor
        for prefix, module in modules.items()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    }
    for name, value in given.items():
        if own[name].data_ptr() != value.data_ptr() and not torch.equal(own[name].detach(), value):
            raise WeightsError(f"{name} does not hold the values that were loaded into it", str(path), BUILD)
    left = [name for name, tensor in own.items() if tensor.is_meta]
    if left:
        raise WeightsError(f"still without values: {_some(left)}", where=str(path), hint=BUILD)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", … ({len(names)})" if len(names) > SHOWN else "")
