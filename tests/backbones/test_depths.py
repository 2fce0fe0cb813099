"""Depths: timm's own for its architectures, and the same numbers for the same networks in torchvision."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache

import pytest
import timm
import torchvision
from timm.optim import param_groups_layer_decay
from torch import nn
from torchvision.models import get_model, list_models

from zoo.backbones.behead import behead
from zoo.backbones.depths import stage_depths, timm_depths, torchvision_depths
from zoo.backbones.stages import find_stages
from zoo.backbones.timm import build as build_timm
from zoo.backbones.torchvision import build as build_torchvision
from zoo.meta import on_meta
from zoo.registry.builtin.backbones import TimmOptions, TorchvisionOptions
from zoo.registry.contracts import Backbone, Depths
from zoo.weights.equivalents import PAIRS, other_names

TIMM = [
    *("resnet50", "mobilenetv3_large_100", "convnext_tiny", "vit_tiny_patch16_224", "tf_efficientnet_lite0"),
    *("swin_tiny_patch4_window7_224", "densenet121", "regnety_002", "efficientnetv2_rw_t", "mixer_s16_224"),
    *("vgg11_bn", "inception_v3", "beit_base_patch16_224"),
    *("cait_xxs24_224", "hrnet_w18_small"),
    "iformer_t",  # its pattern for the last block's layer takes in the classifier
]
BUILT = ["test_vit", "test_resnet", "test_efficientnet", "deit_tiny_distilled_patch16_224"]
ALONE = ["poolformer_s12", "pit_ti_224", "caformer_s18"]
"""Architectures of timm that do not say what their layers are, one of each kind."""
# And those without a classifier, of which timm's deepest layer is not the heads' but their own last.
WITHOUT_LAYERS = (
    *("caformer", "convformer", "csatv2", "mobilenetv5_300m_enc", "pit_", "poolformer"),
    *("deepseek_vit", "gemma4_vit", "qwen3_vit"),
)
FAMILIES = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "resnet18", "resnext50_32x4d"),
    *("shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32", "wide_resnet50_2"),
]
SAME = [
    *("resnet50", "densenet121", "vgg11", "vgg11_bn", "mobilenetv2_100", "mnasnet_050", "efficientnet_b0"),
    *("regnetx_004_tv", "regnety_004", "convnext_tiny", "vit_base_patch16_224", "swin_tiny_patch4_window7_224"),
]
ALIKE = [  # timm, torchvision, layers: networks that differ in a number or in a few tensors
    ("mobilenetv3_large_100", "mobilenet_v3_large", 18),
    ("mobilenetv3_small_100", "mobilenet_v3_small", 14),
    ("efficientnetv2_s", "efficientnet_v2_s", 42),
    ("inception_v3", "inception_v3", 14),
    ("swinv2_tiny_window8_256", "swin_v2_t", 14),
]
DECAY = 0.75
WITHOUT_AUXILIARIES = {"aux_logits": False, "init_weights": True}


@cache
def timm_model(arch: str) -> nn.Module:
    with on_meta():
        model: nn.Module = timm.create_model(arch, num_classes=5)
    return model


@cache
def torchvision_model(arch: str) -> nn.Module:
    arguments = WITHOUT_AUXILIARIES if arch in ("googlenet", "inception_v3") else {}
    with nullcontext() if arch.startswith("regnet") else on_meta():  # regnets need numbers to be built
        model: nn.Module = get_model(arch, weights=None, **arguments)
    return model.to("meta")


def timm_layers(arch: str) -> Depths:
    """Return the depths of a whole model, its classifier's own among them: a tenth of the work of building a trunk."""
    return timm_depths(timm_model(arch), None)


def torchvision_layers(arch: str) -> Depths:
    return torchvision_depths(arch, torchvision_model(arch), None)


def timm_backbone(arch: str) -> Backbone:
    with on_meta():
        return build_timm(TimmOptions(arch=arch), None)


def torchvision_backbone(arch: str) -> Backbone:
    with on_meta():
        return build_torchvision(TorchvisionOptions(arch=arch), None)


def depths_of(backbone: Backbone) -> Depths:
    assert backbone.depths is not None
    return backbone.depths


def require_layers(depths: Depths, module: nn.Module) -> None:
    """Every parameter has a depth, from 0 without gaps, and the heads come last."""
    assert list(depths.of) == [name for name, _ in module.named_parameters()]
    assert {*depths.of.values(), depths.heads} == set(range(depths.heads + 1))


def timm_rates(model: nn.Module) -> dict[str, float]:
    """Return the multiples of the learning rate that timm gives a whole model's parameters, by their names."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = param_groups_layer_decay(model, layer_decay=DECAY)
    return {names[id(parameter)]: group["lr_scale"] for group in groups for parameter in group["params"]}


def require_rates(depths: Depths, module: nn.Module, rates: dict[str, float]) -> None:
    """The rates of what is trained follow from the depths, and timm's of what the trunk has not are the heads'."""
    require_layers(depths, module)
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    own = {name: rates.pop(name) for name in trained}
    assert own == {name: DECAY ** (depths.heads - depths.of[name]) for name in trained}
    assert set(rates.values()) <= {1.0}


def require_timm_s_rates(arch: str) -> None:
    with on_meta():
        model = timm.create_model(arch, num_classes=5)
    known, rates = model.pretrained_cfg["classifier"], timm_rates(model)
    classifier = (
        known if isinstance(known, str) else None
    )  # several stay: what the heads are is to be found all the same
    trunk = behead(model, classifier) if classifier else model
    require_rates(timm_depths(trunk, classifier), trunk, rates)


@pytest.mark.parametrize("arch", TIMM)
def test_rates_are_those_of_timm_s_layer_decay(arch: str) -> None:
    require_timm_s_rates(arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [arch for arch in timm.list_models() if not arch.startswith(WITHOUT_LAYERS)][::6])
def test_rates_are_those_of_timm_s_layer_decay_for_every_sixth(arch: str) -> None:
    require_timm_s_rates(arch)


@pytest.mark.parametrize("arch", BUILT)
def test_backbones_of_timm_have_the_rates_of_its_layer_decay(arch: str) -> None:
    backbone = timm_backbone(arch)
    with on_meta():
        whole = backbone.native.build(5)
    require_rates(depths_of(backbone), backbone.module, timm_rates(whole))


@pytest.mark.parametrize("arch", ALONE)
def test_an_architecture_of_timm_that_tells_no_layers_has_a_depth_a_stage(arch: str) -> None:
    model, depths = timm_model(arch), timm_layers(arch)
    assert not hasattr(model, "group_matcher")
    assert depths == stage_depths([name for name, _ in model.named_parameters()], find_stages(model))


def require_ordered_layers(depths: Depths, module: nn.Module) -> None:
    """The depths of torchvision's parameters never fall from one to the next: it defines them in order of use."""
    require_layers(depths, module)
    assert [*depths.of.values()] == sorted(depths.of.values())
    assert depths.heads >= 5


@pytest.mark.parametrize("arch", FAMILIES)
def test_torchvision_s_layers_go_from_the_input_to_the_heads(arch: str) -> None:
    require_ordered_layers(torchvision_layers(arch), torchvision_model(arch))


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1"])
def test_backbones_of_torchvision_have_their_depths(arch: str) -> None:
    backbone, whole = torchvision_backbone(arch), torchvision_layers(arch)
    assert depths_of(backbone).heads == whole.heads
    assert depths_of(backbone).of == {name: whole.of[name] for name, _ in backbone.module.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("arch", list_models(module=torchvision.models))
def test_the_layers_of_all_of_torchvision_go_from_the_input_to_the_heads(arch: str) -> None:
    require_ordered_layers(torchvision_layers(arch), torchvision_model(arch))


def test_every_architecture_of_torchvision_is_known() -> None:
    """In a known one a name that no pattern fits goes with the heads; of an unknown one it would be a stage."""
    unknown = nn.ModuleDict({"unknown": nn.Linear(1, 1)})
    for arch in list_models(module=torchvision.models):
        assert torchvision_depths(arch, unknown, None).heads == 0
    assert torchvision_depths("new", unknown, None).heads == 1


def require_equal_depths(arch: str) -> None:
    own, other = timm_layers(arch), torchvision_layers(PAIRS[arch])
    names = other_names(f"timm/{arch}", own.of)
    assert other.of == {there: own.of[here] for there, here in names.items()}
    assert other.heads == own.heads


@pytest.mark.parametrize("arch", SAME)
def test_the_same_network_has_the_same_depths_in_both_libraries(arch: str) -> None:
    require_equal_depths(arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", PAIRS)
def test_every_same_network_has_the_same_depths_in_both_libraries(arch: str) -> None:
    require_equal_depths(arch)


def layer_sizes(depths: Depths) -> dict[int, int]:
    """Return the number of weights in every layer: what else there is differs between the like networks."""
    weights = [depth for name, depth in depths.of.items() if name.endswith(".weight")]
    return {depth: weights.count(depth) for depth in weights}


@pytest.mark.parametrize(("timm_s", "torchvision_s", "layers"), ALIKE)
def test_networks_that_are_alike_have_the_same_layers(timm_s: str, torchvision_s: str, layers: int) -> None:
    own, other = timm_layers(timm_s), torchvision_layers(torchvision_s)
    assert own.heads == other.heads == layers - 1
    assert layer_sizes(own) == layer_sizes(other)


def test_maxvit_s_layers_are_its_stages() -> None:
    """torchvision's first block has a convolution in its shortcut, where timm's has none."""
    own, other = timm_layers("maxvit_tiny_tf_224"), torchvision_layers("maxvit_t")
    more = [int(depth == 1) for depth in range(6)]
    assert layer_sizes(other) == {depth: count + more[depth] for depth, count in layer_sizes(own).items()}


def by_layer(depths: Depths, *prefixes: str) -> dict[str, int]:
    """Return the one depth of all parameters that begin with each prefix."""
    found: dict[str, int] = {}
    for prefix in prefixes:
        (found[prefix],) = {depth for name, depth in depths.of.items() if name.startswith(prefix)}
    return found


RESNET50 = [f"layer{stage}.{block}." for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)) for block in range(blocks)]


@pytest.mark.parametrize("layers", [timm_layers, torchvision_layers])
def test_a_resnet_s_layers_are_its_stem_and_its_blocks(layers: Callable[[str], Depths]) -> None:
    depths = layers("resnet50")
    assert by_layer(depths, "conv1.", "bn1.") == {"conv1.": 0, "bn1.": 0}
    assert by_layer(depths, *RESNET50) == {block: depth for depth, block in enumerate(RESNET50, start=1)}
    assert depths.of["layer4.2.bn3.weight"] == 16
    assert depths.heads == 17


def test_a_vit_s_layers_are_its_embeddings_and_its_blocks() -> None:
    depths = timm_layers("vit_tiny_patch16_224")
    embeddings = by_layer(depths, "cls_token", "pos_embed", "patch_embed.")
    assert set(embeddings.values()) == {0}
    blocks = [f"blocks.{block}." for block in range(12)]
    assert [*by_layer(depths, *blocks).values()] == [*range(1, 13)]
    assert by_layer(depths, "norm.") == {"norm.": 12}
    assert depths.heads == 13


PINS: Mapping[str, Mapping[str, int]] = {
    "alexnet": {"features.0.": 0, "features.3.": 1, "features.10.": 4, "classifier.1.": 5, "classifier.4.": 5},
    "googlenet": {
        "conv1.": 0,
        "conv2.": 1,
        "conv3.": 1,
        "inception3a.": 2,
        "inception4a.": 4,
        "inception5b.": 10,
        "fc.": 11,
    },
    "shufflenet_v2_x0_5": {"conv1.": 0, "stage2.0.": 1, "stage3.0.": 5, "stage4.3.": 16, "conv5.": 16, "fc.": 17},
    "squeezenet1_1": {"features.0.": 0, "features.3.": 1, "features.12.": 8, "classifier.1.": 9},
}
"""torchvision's own: no network of timm tells their depths."""


@pytest.mark.parametrize("arch", PINS)
def test_what_only_torchvision_has(arch: str) -> None:
    depths = torchvision_layers(arch)
    assert by_layer(depths, *PINS[arch]) == PINS[arch]
    assert depths.heads == max(PINS[arch].values())


def test_two_classifiers_are_one_layer() -> None:
    """A distilled deit keeps neither; the trunk's last norm counts with the last block."""
    backbone = timm_backbone("deit_tiny_distilled_patch16_224")
    assert backbone.native.classifier is None
    assert depths_of(backbone).of["norm.weight"] == 12
    assert depths_of(backbone).heads == 13


def test_a_module_from_elsewhere_has_a_depth_a_stage() -> None:
    module = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 3))
    expected = Depths({"0.weight": 0, "0.bias": 0, "1.weight": 1, "1.bias": 1}, heads=2)
    assert timm_depths(module, None) == torchvision_depths("new", module, None) == expected


def test_depths_of_stages() -> None:
    names = ["cls_token", "layer1.weight", "layer10.weight", "layer10.0.bias", "norm"]
    expected = Depths(
        {"cls_token": 0, "layer1.weight": 1, "layer10.weight": 2, "layer10.0.bias": 2, "norm": 3}, heads=4
    )
    assert stage_depths(names, ("cls_token", "layer1", "layer10", "norm")) == expected


def test_a_module_without_parameters_has_heads_alone() -> None:
    assert stage_depths([], find_stages(nn.Identity())) == Depths({}, heads=0)
