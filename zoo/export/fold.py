"""Folding batch norms into the layers before them: in eval mode both are linear, so one layer does for two."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

Linear = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


@dataclass(frozen=True)
class _Call:
    """A module that was called, what it was given, and what it gave."""

    name: str
    module: nn.Module
    given: Tensor
    gave: Tensor


def fold_batchnorm(network: nn.Module, images: Tensor) -> list[str]:
    """Fold every batch norm that follows a convolution or linear layer at once, in place; return the norms' names.

    `network` is in eval mode; `images` is one batch that it takes, and shows what follows what. A layer or norm that is
    called twice, or whose values go elsewhere too, stays. timm's norms with an activation keep the activation.
    """
    calls = _calls(network, images)
    folded = []
    for first, second in _pairs(calls):
        norm = second.module
        if not isinstance(norm, _BatchNorm):
            continue
        _set(network, first.name, _fused(first.module, norm))
        _set(network, second.name, _without_norm(norm))
        folded.append(second.name)
    return folded


@torch.inference_mode()
def _calls(network: nn.Module, images: Tensor) -> list[_Call]:
    """Return the calls of layers and norms in order. The values stay alive meanwhile, so their identity tells them."""
    calls: list[_Call] = []

    def note(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, given: tuple[Tensor, ...], gave: Tensor) -> None:
            calls.append(_Call(name, module, given[0], gave))

        hooks.append(module.register_forward_hook(hook))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in network.named_modules():
        if isinstance(module, Linear | _BatchNorm):
            note(name, module)
    try:
        network(images)
    finally:
        for handle in hooks:
            handle.remove()
    return calls


def _pairs(calls: list[_Call]) -> Iterator[tuple[_Call, _Call]]:
    """Yield (layer, norm) where the norm takes what the layer gave, each called once."""
    names = [call.name for call in calls]
    for first in calls:
        after = [call for call in calls if call.given is first.gave]
        alone = len(after) == 1 and names.count(first.name) == names.count(after[0].name) == 1
        if alone and isinstance(first.module, Linear) and _can_fold(first.module, after[0].module):
            yield first, after[0]


def _can_fold(layer: nn.Module, norm: nn.Module) -> bool:
    has = isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.affine
    return has and not nn.utils.parametrize.is_parametrized(layer)


def _fused(layer: nn.Module, norm: _BatchNorm) -> nn.Module:
    """Return the layer with the norm in its weights, computed in float64."""
    fuse: Any = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
    fused: nn.Module = fuse(layer.double(), norm.double()).float()
    return fused


def _without_norm(norm: _BatchNorm) -> nn.Module:
    """Return what else the norm's module does: timm's drop and activation."""
    children = [child for child in norm.children() if not isinstance(child, nn.Identity)]
    return nn.Sequential(*children) if children else nn.Identity()


def _set(network: nn.Module, name: str, module: nn.Module) -> None:
    path, _, last = name.rpartition(".")
    setattr(network.get_submodule(path), last, module.eval())
