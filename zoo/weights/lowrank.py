"""Checkpoints of runs with low-rank adapters: the adapters are folded into the weights that they adapt."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_ORIGINAL = re.compile(r"(?P<layer>.+)\.parametrizations\.(?P<tensor>\w+)\.original")


@dataclass(frozen=True)
class _Adapter:
    """The keys of an adapted tensor; what they hold is W (out, …), down (rank, in), up (out, rank) and scale ()."""

    name: str
    weight: str
    down: str
    up: str
    scale: str


def merge_adapters(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a state dict with W + scale · up @ down under the name of each tensor W that the freeze policy `lora`
    adapted, in the place of W; all else as it is.

    The sum is the policy's own to the bit. Keys of such names that do not fit together are left for the ledger.
    """
    found = [adapter for key in tensors if (adapter := _adapter(key)) and _fits(adapter, tensors)]
    if not found:
        return tensors
    by_weight = {adapter.weight: adapter for adapter in found}
    gone = {key for adapter in found for key in (adapter.down, adapter.up, adapter.scale)}
    merged: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key in by_weight:
            merged[by_weight[key].name] = _sum(by_weight[key], tensors)
        elif key not in gone:
            merged[key] = value
    return merged


def _adapter(key: str) -> _Adapter | None:
    match = _ORIGINAL.fullmatch(key)
    if match is None:
        return None
    inside = f"{key.removesuffix('original')}0"
    return _Adapter(f"{match['layer']}.{match['tensor']}", key, f"{inside}.down", f"{inside}.up", f"{inside}.scale")


def _fits(adapter: _Adapter, tensors: Mapping[str, Tensor]) -> bool:
    if adapter.name in tensors or any(key not in tensors for key in (adapter.down, adapter.up, adapter.scale)):
        return False
    weight, down, up = tensors[adapter.weight], tensors[adapter.down], tensors[adapter.up]
    kinds = {tensor.dtype for tensor in (weight, down, up, tensors[adapter.scale])}
    matrices = (
        weight.dim() > 1
        and weight.numel() > 0
        and weight.is_floating_point()
        and len(kinds) == 1
        and down.dim() == up.dim() == 2
    )
    shapes = (up.shape, down.shape, tensors[adapter.scale].shape)
    return matrices and shapes == ((len(weight), len(down)), (len(down), weight[0].numel()), ())


def _sum(adapter: _Adapter, tensors: Mapping[str, Tensor]) -> Tensor:
    weight = tensors[adapter.weight]
    with torch.no_grad():
        added = (tensors[adapter.scale] * tensors[adapter.up]) @ tensors[adapter.down]
        total: Tensor = weight + added.view(weight.shape)
    return total
