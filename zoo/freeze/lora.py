"""The policy `lora`: low-rank adapters, the only part of the backbone that trains, folded into its weights at the end.

LoRA: Low-Rank Adaptation of Large Language Models (Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang and Chen 2021). An
adapted tensor is computed from its frozen values and the adapter whenever a layer reads it, so a layer runs the very
code that it always runs, whatever its library does with its weights, and a merged model is the adapted one bit for bit.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zoo.errors import ZooError, nearest
from zoo.freeze.names import in_heads, short
from zoo.registry.builtin.freeze import LoraOptions
from zoo.registry.contracts import Adapter, FreezePolicy, Layout, Rates

MATRICES = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""The tensors of a layer that are adapted: an attention layer has one for queries, keys and values, or three."""
PARTS = ("down", "up")
"""The parameters of an adapter."""


class LowRank(nn.Module):
    """W (out, …) plus alpha / rank · up @ down, with down (rank, in) and up (out, rank), in W's type and on its device.

    `in` is all of W but its first dimension: a convolution's channels times its kernel. `down` starts as the authors'
    code has it (uniform within 1 / sqrt(in)), `up` at zero, so that at first nothing is added.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        flat = weight.numel() // weight.shape[0]
        self.down = nn.Parameter(weight.new_empty((rank, flat)))
        self.up = nn.Parameter(weight.new_zeros((weight.shape[0], rank)))
        nn.init.kaiming_uniform_(self.down, a=sqrt(5))
        # In the state dict, so that a checkpoint can be merged from its tensors alone.
        self.register_buffer("scale", weight.new_full((), alpha / rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted weight, in the shape, type and memory format of `weight`.

        Never in autocast's precision: what is merged is what was trained, and it costs little beside the layer itself.
        """
        kind = weight.device.type
        open_for = torch.amp.is_autocast_available(kind)
        with torch.autocast(kind, enabled=False) if open_for else nullcontext():
            return weight + ((self.scale * self.up) @ self.down).view(weight.shape)


@dataclass(frozen=True)
class _Place:
    """A tensor to adapt. `called` are the names of its layer, without the root: its own, and an attention layer's."""

    module: nn.Module
    tensor: str
    called: tuple[str, ...]


class LowRankAdapter:
    """Adapters as the options say; see `zoo.registry.contracts.Adapter`."""

    def __init__(self, options: LoraOptions) -> None:
        self._options = options

    def attach(self, model: nn.Module, layout: Layout) -> None:
        """Adapt the backbone's layers in place: those that `options.layers` names, all of them when it is empty.

        A weight W becomes `parametrizations.W.original`, beside its adapter `parametrizations.W.0`. Random values are
        drawn in the order of the layers. ZooError: there is no such layer, or none at all; the model has adapters; a
        tensor belongs to two layers.
        """
        if any(isinstance(module, LowRank) for module in model.modules()):
            raise ZooError("the model has adapters already", "[freeze]", "merge them first: zoo.freeze.merge(model)")
        chosen = self._choose(list(_places(model, layout, self._layers())))
        _require_unshared(model, chosen)
        for place in chosen:
            weight = getattr(place.module, place.tensor)
            adapter = LowRank(weight, self._options.rank, self._options.alpha)
            parametrize.register_parametrization(place.module, place.tensor, adapter)

    def merge(self, model: nn.Module) -> None:
        """Fold the adapters into the weights: see `merge`."""
        merge(model)

    def _layers(self) -> tuple[type[nn.Module], ...]:
        return (nn.Linear, nn.MultiheadAttention, *((nn.Conv2d,) if self._options.convolutions else ()))

    def _choose(self, places: Sequence[_Place]) -> list[_Place]:
        kinds = "linear, attention or convolution layer" if self._options.convolutions else "linear or attention layer"
        if not places:
            others = "" if self._options.convolutions else "convolutions = true, "
            hint = f'use {others}"norm-only", "bitfit" or "stages"'
            raise ZooError(f"the backbone has no {kinds} to adapt", where="[freeze]", hint=hint)
        names = dict.fromkeys(name for place in places for name in place.called)
        for glob in self._options.layers:
            if not any(fnmatchcase(name, glob) for name in names):
                what = f"freeze.layers has {glob!r}, which matches no {kinds} of the backbone"
                raise ZooError(what, where="[freeze]", hint=nearest(glob, names))
        globs = self._options.layers or ["*"]
        return [p for p in places if any(fnmatchcase(name, glob) for name in p.called for glob in globs)]


def build(options: LoraOptions) -> FreezePolicy:
    """Train the adapters at `options.rate` and the heads at the run's; all that was there before is frozen.

    ZooError: the model has no adapters.
    """

    def policy(layout: Layout, epoch: int) -> Rates:
        if not any(_is_adapter(name) for name in layout.parameters):
            hint = "attach them first: zoo.freeze.lora.build_adapter(options).attach(model, layout)"
            raise ZooError('the freeze policy "lora" trains adapters, and the model has none', "[freeze]", hint)
        return {
            name: 1.0 if in_heads(layout, name) else options.rate if _is_adapter(name) else None
            for name in layout.parameters
        }

    return policy


def build_adapter(options: LoraOptions) -> Adapter:
    """Return what attaches the adapters and merges them."""
    return LowRankAdapter(options)


def merge(model: nn.Module) -> None:
    """Fold every low-rank adapter of a model into its weight, in place: names and their order are those of before.

    What the model computes stays the same to the bit on the device that it is on. Without adapters nothing happens.
    """
    for module in list(model.modules()):
        tensors = [name for name in MATRICES if _is_adapted(module, name)]
        if tensors:
            _own_class(module)
        for name in tensors:
            parametrize.remove_parametrizations(module, name)
        _move_to_front(module, tensors)


def _own_class(module: nn.Module) -> None:
    """A deep copy shares its class with what it is a copy of, and removing takes the property off the class."""
    shared = type(module)
    module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))


def _move_to_front(module: nn.Module, tensors: Sequence[str]) -> None:
    """A state dict has tensors in the order of registration, and torch's layers begin with their matrices."""
    if tensors:
        for name in [name for name in module._parameters if name not in tensors]:
            module._parameters[name] = module._parameters.pop(name)


def _is_adapted(module: nn.Module, tensor: str) -> bool:
    if not parametrize.is_parametrized(module, tensor):
        return False
    return isinstance(module.get_submodule(f"parametrizations.{tensor}.0"), LowRank)


def _is_adapter(name: str) -> bool:
    return ".parametrizations." in name and name.rpartition(".")[2] in PARTS


def _places(model: nn.Module, layout: Layout, layers: tuple[type[nn.Module], ...]) -> Iterator[_Place]:
    """Yield what can be adapted, in the order of the model."""
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if not isinstance(module, layers) or in_heads(layout, name):
            continue
        owner = name.rpartition(".")[0]
        inside = (short(layout, owner),) if isinstance(modules.get(owner), nn.MultiheadAttention) else ()
        held = dict(module.named_parameters(recurse=False))
        for tensor in MATRICES:
            if tensor in held and held[tensor].dim() > 1:
                yield _Place(module, tensor, (short(layout, name), *inside))


def _require_unshared(model: nn.Module, places: Sequence[_Place]) -> None:
    """Two layers with one tensor would each add to it what only one has learnt."""
    holders: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), set()).add(id(module))
    for place in places:
        if len(holders[id(getattr(place.module, place.tensor))]) > 1:
            what = f"{place.called[0]}.{place.tensor} belongs to another layer too, and cannot be adapted"
            raise ZooError(what, where="[freeze]", hint="name other layers in freeze.layers")
