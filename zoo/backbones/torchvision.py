"""The `torchvision` backbone: any classification architecture, its classifier taken off, other names as they are."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

from zoo.backbones.behead import CLASSES, Asked, behead, take_trunk
from zoo.backbones.depths import torchvision_depths
from zoo.backbones.stages import find_stages
from zoo.errors import ZooError, nearest
from zoo.registry.builtin.backbones import TorchvisionOptions
from zoo.registry.contracts import Backbone, InputSpec, Native

# torchvision sets transform_input when it loads its own weights, so the preprocessing in their transforms() needs it.
# Without init_weights it warns. The auxiliary classifiers only serve training from scratch.
_INCEPTION: Mapping[str, Any] = {"aux_logits": False, "init_weights": True, "transform_input": True}


def build(options: TorchvisionOptions, image_size: tuple[int, int] | None) -> Backbone:
    """Return the architecture with random weights on torch's default device, for images of `image_size` (or its own).

    ZooError: torchvision does not know the name, or the architecture cannot take that size.
    """
    expected = _find_input(options.arch)
    asked = Asked(f"torchvision/{options.arch}", image_size or expected.size, expected.size)
    arguments = _find_arguments(options.arch, asked)
    create = partial(_create, options.arch, arguments)
    trunk = take_trunk(create, partial(_create_headless, create), asked)
    native = _describe_native(options.arch, trunk.classifier, arguments)
    depths = torchvision_depths(options.arch, trunk.module, trunk.classifier)
    return Backbone(trunk.module, trunk.spec, find_stages(trunk.module), native, expected, depths)


def architectures() -> list[str]:
    """Return the names of all of torchvision's classification architectures."""
    return list(list_models(module=torchvision.models))


def _create(arch: str, arguments: Mapping[str, Any], classes: int) -> nn.Module:
    make: partial[nn.Module] = partial(get_model, arch, weights=None, num_classes=classes, **arguments)
    try:
        return make()
    except NotImplementedError:
        if torch.get_default_device().type != "meta":
            raise
        # Regnets read numbers from tensors while they are built, which meta tensors do not have.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            return make().to("meta")


def _create_headless(create: partial[nn.Module]) -> nn.Module:
    """Return the model without its last layer: squeezenet's convolution, maxvit's linear layer without bias."""
    native = create(CLASSES)
    layers = [name for name, layer in native.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return behead(native, layers[-1])


def _find_arguments(arch: str, asked: Asked) -> dict[str, Any]:
    """Return what the library's builder has to be told beside the number of classes."""
    if arch in ("googlenet", "inception_v3"):
        return dict(_INCEPTION)
    if asked.size == (224, 224):  # torchvision's own default, whatever the weights expect: vit_h_14's are for 518
        return {}
    if arch.startswith("vit_"):
        return {"image_size": _side(asked)}
    return {"input_size": asked.size} if arch.startswith("maxvit_") else {}


def _side(asked: Asked) -> int:
    if asked.size[0] != asked.size[1]:
        raise asked.refuse("it takes square images only")
    return asked.size[0]


def _find_input(arch: str) -> InputSpec:
    """Return the preprocessing that torchvision's default weights of an architecture expect. Downloads nothing."""
    if arch not in architectures():
        raise ZooError(f"torchvision has no architecture {arch!r}", "[backbone] arch", nearest(arch, architectures()))
    expected = get_model_weights(arch)["DEFAULT"].transforms()
    side, shorter = expected.crop_size[0], expected.resize_size[0]
    return InputSpec(
        size=(side, side),
        mean=tuple(expected.mean),
        std=tuple(expected.std),
        interpolation=expected.interpolation.value,
        crop_pct=min(side / shorter, 1.0),
    )


def _describe_native(arch: str, classifier: str | None, arguments: Mapping[str, Any]) -> Native:
    extra = "".join(f", {key}={value!r}" for key, value in arguments.items())
    return Native(
        library="torchvision",
        arch=arch,
        classifier=classifier,
        build=partial(_create, arch, arguments),
        code=f'torchvision.models.get_model("{arch}", num_classes=classes{extra})',
        arguments=dict(arguments),
    )
