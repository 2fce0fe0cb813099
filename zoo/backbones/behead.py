"""Taking the classifier off a library's model: find its last linear layer, remove it, measure what is left.

What has to be known is found out on the meta device: shapes without numbers, in milliseconds and without memory.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.meta import on_meta
from zoo.registry.contracts import FeatureSpec

# Classes of a classifier that is only built to lose its last layer; the backbone does not depend on it.
CLASSES = 2

Create = Callable[[int], nn.Module]
"""Makes the library's own classifier with so many classes, on torch's default device."""


@dataclass(frozen=True)
class Trunk:
    """A library's model without its classifier; `classifier` names the linear layer (with bias) that was its last."""

    module: nn.Module
    spec: FeatureSpec
    classifier: str | None


@dataclass(frozen=True)
class Asked:
    """What a recipe asks for: an architecture, how it is named in messages, and pixels (height, width)."""

    name: str
    size: tuple[int, int]
    own_size: tuple[int, int]

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Turn whatever the library raises into a refusal of the image size."""
        try:
            yield
        except Exception as error:  # each architecture has its own way to fail: assertions, shapes, divisions
            raise self.refuse(str(error).strip() or type(error).__name__) from error

    def refuse(self, reason: str) -> ZooError:
        """Return the refusal of the image size; `reason` is the library's words, the first line of which is kept."""
        own = f"{self.own_size[0]} x {self.own_size[1]}"
        return ZooError(
            f"{self.name} cannot take images of {self.size[0]} x {self.size[1]} pixels: {reason.splitlines()[0]}",
            where="[data] image_size",
            hint="choose another arch" if self.size == self.own_size else f"its weights expect {own}",
        )


def take_trunk(create: Create, create_headless: Callable[[], nn.Module], asked: Asked) -> Trunk:
    """Return the trunk of the model that `create` makes, on torch's default device.

    `create_headless` makes the trunk of architectures that do not end in one linear layer on pooled features.
    ZooError when the architecture cannot take images of the size asked for.
    """
    if asked not in _FOUND:
        _FOUND[asked] = _find(create, create_headless, asked)
    layer, spec = _FOUND[asked]
    return Trunk(behead(create(CLASSES), layer) if layer else create_headless(), spec, layer)


_FOUND: dict[Asked, tuple[str | None, FeatureSpec]] = {}
"""What was found out of architectures; a run builds its own twice."""


def _find(create: Create, create_headless: Callable[[], nn.Module], asked: Asked) -> tuple[str | None, FeatureSpec]:
    with on_meta(), asked.refusing():
        native = create(CLASSES)
    layer = find_last_linear(native, asked)
    with on_meta():
        return layer, measure(behead(native, layer) if layer else create_headless(), asked)


def probe(module: nn.Module, asked: Asked) -> Tensor:
    """Return what a module on the meta device gives for one image (1, 3, H, W) in eval mode.

    ZooError when it cannot take images of that size.
    """
    with torch.device("meta"), torch.inference_mode(), asked.refusing():
        given: Tensor = module.eval()(torch.empty(1, 3, *asked.size))
    return given


def find_last_linear(native: nn.Module, asked: Asked) -> str | None:
    """Return the name of the nn.Linear that turns features (B, C) into logits (B, K) as the model's last deed, or None.

    It must have a bias and be called once, and its output must be the logits themselves: a mean of two heads or a
    convolution that is reshaped does not count. `native` is on the meta device.
    """
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
    hooks = [
        layer.register_forward_hook(lambda _, given, out, name=name: calls.setdefault(name, []).append((given[0], out)))
        for name, layer in native.named_modules()
        if isinstance(layer, nn.Linear) and layer.bias is not None
    ]
    logits = probe(native, asked)
    for hook in hooks:
        hook.remove()
    last = [name for name, ((given, out), *more) in calls.items() if out is logits and given.ndim == 2 and not more]
    return last[0] if last else None


def behead(native: nn.Module, layer: str) -> nn.Module:
    """Return `native` with `layer` replaced by the identity, and a dropout right before it too: dropout is the head's.

    All other names stay as they are.
    """
    path, _, last = layer.rpartition(".")
    parent = native.get_submodule(path)
    for (name, sibling), (following, _) in pairwise(list(parent.named_children())):
        if following == last and isinstance(sibling, nn.Dropout):
            setattr(parent, name, nn.Identity())
    setattr(parent, last, nn.Identity())
    return native


def measure(headless: nn.Module, asked: Asked) -> FeatureSpec:
    """Return the spec of the features that a module on the meta device gives: (B, C) or (B, C, H, W)."""
    features = probe(headless, asked)
    if features.ndim == 2:
        return FeatureSpec(features.shape[1])
    if features.ndim == 4:
        return FeatureSpec(features.shape[1], pooled=False, stride=asked.size[0] // features.shape[2])
    raise ZooError(
        f"{asked.name} gives features of shape {tuple(features.shape)} for one image, not (1, C) or (1, C, H, W)",
        where="[backbone] arch",
        hint="choose an arch that ends in a classifier",
    )
