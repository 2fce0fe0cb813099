"""Tensors of which each process has a shard (DTensor), and what they are whole. Plain tensors pass through."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(tensor: Tensor) -> bool:
    """Return whether this process has a shard of the tensor. Imports nothing: a plain tensor is seen at once."""
    if type(tensor) is Tensor or type(tensor) is nn.Parameter:
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor, detached. For a sharded one all processes must call it, in the same order."""
    found: Tensor = tensor.detach()
    return found.full_tensor() if is_sharded(tensor) else found  # type: ignore[attr-defined]


def whole_state(state: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """Return a state dict of whole tensors, those that were sharded on the CPU; empty unless it is to `keep` them.

    There is one whole tensor at a time on the device. All processes must call it.
    """
    found = {}
    for name, tensor in state.items():
        entire = whole(tensor)
        if keep:
            found[name] = entire.cpu() if is_sharded(tensor) else entire
    return found


def local(tensor: Tensor) -> Tensor:
    """Return what this process has of the tensor, detached."""
    found: Tensor = tensor.detach()
    return found.to_local() if is_sharded(tensor) else found  # type: ignore[attr-defined]


def shard_like(tensor: Tensor, target: Tensor) -> Tensor:
    """Return a whole tensor as `target` is kept: sharded over the same processes in the same way, or as it is.

    Every process has the same tensor: nothing travels.
    """
    if not is_sharded(target):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = target
    kept = tensor.to(sharded.device)
    return distribute_tensor(kept, sharded.device_mesh, sharded.placements, src_data_rank=None)


def load_whole(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state dict of whole tensors into a module, sharded or not. RuntimeError: names or shapes differ."""
    own = module.state_dict()
    with torch.no_grad():
        kept = {name: shard_like(value, own[name]) if name in own else value for name, value in state.items()}
    module.load_state_dict(kept)
