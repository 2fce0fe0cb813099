"""Depths: how many layers lie before each parameter, for learning rates that decay towards the input.

Layer-wise decay gives a parameter the rate decay ** (deepest - depth): BEiT (Bao et al. 2021, arXiv:2106.08254) counts
a transformer's blocks, and timm's `group_matcher` says for each of its architectures what counts as one layer. Those
of torchvision are counted here in the same way, by patterns in timm's format, so that a network which both libraries
have gets the same depths from both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from zoo.backbones.stages import find_stages
from zoo.registry.contracts import Depths

# What follows is timm's format: {group: pattern, or (pattern, suffix) pairs}. The first pattern that fits a name gives
# its key, (position of the group, numbers in the pattern, suffix). Keys in order are layers; what no pattern fits is
# the deepest, with the classifier.
Layers = Mapping[str, str | Sequence[tuple[str, tuple[int, ...] | None]]]

_WITH_PREVIOUS = (99999,)
"""timm's mark of what counts as part of the layer before it: a last norm, a convolution before the pooling."""

_RESNET: Layers = {"stem": r"conv1|bn1", "blocks": r"layer(\d+)\.(\d+)"}
# As timm has it for vgg: the batch norms of vgg11_bn and its like are layers of their own.
_COUNTED: Layers = {"stem": r"features\.0\.", "blocks": r"features\.(\d+)"}
_DENSENET: Layers = {
    "stem": r"features\.(?:conv|norm)0",
    "blocks": [
        (r"features\.denseblock(\d+)\.denselayer(\d+)", None),
        (r"features\.transition(\d+)", _WITH_PREVIOUS),
    ],
}
_GOOGLENET: Layers = {
    "conv1": r"conv1",
    "conv2": r"conv[23]",  # timm's inception_v3 counts the convolutions between two poolings as one
    **{mixed: rf"inception{mixed}\." for mixed in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")},
}
_INCEPTION: Layers = {
    "conv1": r"Conv2d_[12]",
    "conv2": r"Conv2d_[34]",
    **{mixed: rf"Mixed_{mixed}\." for mixed in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")},
}
_MOBILENET_V2: Layers = {
    "stem": r"features\.0\.",
    "blocks": [(r"features\.(\d+)\.conv\.", None), (r"features\.", _WITH_PREVIOUS)],
}
_MNASNET: Layers = {
    "stem": r"layers\.[01]\.",
    "blocks": [
        (r"layers\.[3-7]\.", (0, 0)),  # the first block, which torchvision spells out layer by layer
        (r"layers\.(\d+)\.(\d+)\.layers\.", None),
        (r"layers\.", _WITH_PREVIOUS),
    ],
}
_SHUFFLENET: Layers = {
    "stem": r"conv1\.",
    "blocks": [(r"stage(\d+)\.(\d+)\.", None), (r"conv5\.", _WITH_PREVIOUS)],
}
_EFFICIENTNET: Layers = {
    "stem": r"features\.0\.",
    "blocks": [(r"features\.(\d+)\.(\d+)\.block\.", None), (r"features\.", _WITH_PREVIOUS)],
}
_REGNET: Layers = {"stem": r"stem\.", "blocks": r"trunk_output\.block(\d+)\.block\d+-(\d+)\."}
# convnext and swin: `features.2`, 4 and 6 are downsampling and belong to the first block after them.
_FOUR_STAGES: Layers = {
    "stem": r"features\.0\.",
    "blocks": [
        *((rf"features\.{before}\.", (before + 1, 0)) for before in (2, 4, 6)),
        (r"features\.(\d+)\.(\d+)\.", None),
        (r"norm\.", _WITH_PREVIOUS),
    ],
}
_VIT: Layers = {
    "stem": r"class_token|conv_proj|encoder\.pos_embedding",
    "blocks": [(r"encoder\.layers\.encoder_layer_(\d+)\.", None), (r"encoder\.ln\.", _WITH_PREVIOUS)],
}
_MAXVIT: Layers = {"stem": r"stem\.", "blocks": r"blocks\.(\d+)\."}  # whole stages, as timm has them

_TORCHVISION: Mapping[str, Layers] = {
    **dict.fromkeys(("resnet", "resnext", "wide_resnet"), _RESNET),
    **dict.fromkeys(("alexnet", "vgg", "squeezenet", "mobilenet_v3"), _COUNTED),
    "densenet": _DENSENET,
    "googlenet": _GOOGLENET,
    "inception_v3": _INCEPTION,
    "mobilenet_v2": _MOBILENET_V2,
    "mnasnet": _MNASNET,
    "shufflenet_v2": _SHUFFLENET,
    "efficientnet": _EFFICIENTNET,
    "regnet": _REGNET,
    **dict.fromkeys(("convnext", "swin"), _FOUR_STAGES),
    "vit": _VIT,
    "maxvit": _MAXVIT,
}
"""By how the names of the architectures begin."""


def timm_depths(module: nn.Module, classifier: str | None) -> Depths:
    """Return the depths that `timm.optim.param_groups_layer_decay` gives the parameters of a timm model.

    `module` has lost its classifier, the layer `classifier`, or what timm calls its classifiers when that is None.
    One depth a stage where the architecture does not say what its layers are: timm would count parameters instead.
    """
    names, matcher = _names(module), getattr(module, "group_matcher", None)
    if matcher is None:
        return stage_depths(names, find_stages(module))
    return _count_layers(names, classifier or _first_classifier(module), matcher(coarse=False))


def torchvision_depths(arch: str, module: nn.Module, classifier: str | None) -> Depths:
    """Return the depths of the parameters of a torchvision model, counted as timm counts the same or the like network.

    `module` has lost its classifier, the layer `classifier`. One depth a stage for an architecture unknown here.
    """
    names = _names(module)
    found = [layers for start, layers in _TORCHVISION.items() if arch.startswith(start)]
    if not found:
        return stage_depths(names, find_stages(module))
    return _count_layers(names, classifier or "classifier", dict(found[0]))


def stage_depths(names: Sequence[str], stages: Sequence[str]) -> Depths:
    """Return one depth for each stage, in order; `stages` are prefixes that together cover every name exactly once."""
    of = {
        name: depth
        for name in names
        for depth, stage in enumerate(stages)
        if name == stage or name.startswith(stage + ".")
    }
    return Depths(of, heads=len(stages))


def _names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


def _first_classifier(module: nn.Module) -> str:
    """Return timm's own name of a model's classifier, or of the first of two (deit's `head` and `head_dist`)."""
    known = getattr(module, "pretrained_cfg", {}).get("classifier") or "classifier"
    return str(known if isinstance(known, str) else known[0])


@dataclass(frozen=True)
class _Named:
    """Names in the place of a module: its parameters' names are all that timm's grouping looks at."""

    names: Sequence[str]

    def named_parameters(self) -> Iterator[tuple[str, None]]:
        return ((name, None) for name in self.names)


def _count_layers(names: Sequence[str], classifier: str, layers: Any) -> Depths:
    """Return the layers as timm groups the names, with that of the missing classifier as the heads'."""
    from timm.models import group_parameters  # here: it costs a second, which importing a backbone's builder need not

    last = f"{classifier}.weight"
    depths: dict[str, int] = group_parameters(_Named([*names, last]), layers, reverse=True)
    return Depths({name: depths[name] for name in names}, heads=depths[last])
