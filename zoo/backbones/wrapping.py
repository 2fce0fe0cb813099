"""A backbone out of any library's classifier: what a plugin's builder calls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from zoo.backbones.behead import CLASSES, Asked, Create, behead, find_last_linear, measure
from zoo.backbones.stages import find_stages
from zoo.errors import ZooError
from zoo.meta import on_meta
from zoo.registry.contracts import Backbone, InputSpec, Native


def wrap_classifier(
    create: Callable[[int], nn.Module],
    *,
    library: str,
    arch: str,
    code: str,
    input: InputSpec,
    image_size: tuple[int, int] | None,
    arguments: Mapping[str, Any] | None = None,
    logits: str | None = None,
) -> Backbone:
    """Return a library's own classifier as a backbone: its last linear layer taken off, measured, its stages found.

    `create(classes)` makes the classifier, images (B, 3, H, W) → logits (B, classes), on torch's default device; it is
    called on the meta device first. `code` is the Python for it, with `=classes` for their number. `input` is what its
    weights expect, and `image_size` (height, width) what the recipe asks for; when None, `input.size`. `arguments` is
    what `create` was told beside the number of classes. `logits` names the attribute of the classifier's output that
    holds the logits, where that is not a tensor. ZooError: it cannot take images of that size, or does not end in one
    linear layer on pooled features.
    """
    if logits is not None:
        create = partial(_create_giving_logits, create, logits)
    asked = Asked(f"{library}/{arch}", image_size or input.size, input.size)
    layer = _find_classifier(create, asked)
    with on_meta():
        spec = measure(behead(create(CLASSES), layer), asked)
    module = behead(create(CLASSES), layer)
    native = Native(library, arch, layer, create, code, dict(arguments or {}), logits)
    return Backbone(module, spec, find_stages(module), native, input)


def _find_classifier(create: Create, asked: Asked) -> str:
    with on_meta(), asked.refusing():
        native = create(CLASSES)
    layer = find_last_linear(native, asked)
    if layer is None:
        what = f"{asked.name} does not end in one linear layer with a bias on pooled features (B, C)"
        raise ZooError(what, where="[backbone] arch", hint="choose another arch")
    return layer


@dataclass(frozen=True)
class _TakeLogits:
    """A forward hook that can be pickled; it adds no name to the module's state dict, as a wrapper would."""

    attribute: str

    def __call__(self, module: nn.Module, given: Any, output: Any) -> Any:
        return getattr(output, self.attribute)


def _create_giving_logits(create: Create, attribute: str, classes: int) -> nn.Module:
    module = create(classes)
    module.register_forward_hook(_TakeLogits(attribute))
    return module
