"""The same network in timm and in torchvision: equal tensors under the other library's names give equal logits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models import get_model, list_models

from zoo.weights.equivalents import PAIRS, equivalent, other_names

SMALL = [
    ("resnet18", 64),
    ("densenet121", 64),
    ("vgg11", 96),
    ("mobilenetv2_100", 64),
    ("mnasnet_050", 64),
    ("efficientnet_b0", 64),
    ("regnetx_004_tv", 64),
    ("regnety_004", 64),
    ("convnext_tiny", 64),
    ("vit_base_patch32_224", 64),
    ("swin_tiny_patch4_window7_224", 224),
]
"""The smallest of each family, and a size at which the logits depend on every tensor."""
TWINS = [
    *("mobilenetv3_large_100", "mobilenetv3_small_100", "tf_mobilenetv3_large_100", "tf_efficientnet_b0"),
    *("efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "tf_efficientnet_b5"),
    *("efficientnetv2_s", "efficientnetv2_m", "efficientnetv2_l", "tf_efficientnetv2_s"),
    *("swinv2_tiny_window8_256", "maxvit_tiny_tf_224", "inception_v3", "convnext_tiny_hnf"),
    *("resnetaa50", "resnetblur18", "resnet50_gn", "nf_resnet50", "efficientnet_b0_gn", "efficientnet_blur_b0"),
    *("regnetx_004", "regnety_008", "regnety_080"),
]
ALONE = [
    *("alexnet", "googlenet", "inception_v3", "maxvit_t", "mnasnet1_3", "mobilenet_v3_large", "mobilenet_v3_small"),
    *("efficientnet_b5", "efficientnet_b6", "efficientnet_b7"),
    *("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
    *("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    *("squeezenet1_0", "squeezenet1_1", "swin_v2_t", "swin_v2_s", "swin_v2_b"),
]


class _Unfilled(TorchFunctionMode):
    """Leaves new parameters as they are allocated: the tests fill them themselves, and once is enough."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, named = getattr(func, "__name__", ""), kwargs or {}
        target = args[0] if args else named.get("tensor")
        in_place = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        return target if in_place and isinstance(target, nn.Parameter) else func(*args, **named)


def _build(architecture: str, size: int) -> nn.Module:
    library, arch = architecture.split("/")
    name = "img_size" if library == "timm" else "image_size"
    sized = {name: size} if arch.startswith(("vit_", "deit_")) else {}
    with _Unfilled():
        made: nn.Module = (
            timm.create_model(arch, num_classes=1000, **sized)
            if library == "timm"
            else get_model(arch, weights=None, **sized)
        )
    return made.eval()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors themselves, of which a state dict has detached ones."""
    kept = model.state_dict().keys()
    every = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor for name, tensor in every if name in kept}


def _derived(name: str) -> bool:
    return name.endswith(".relative_position_index")


@torch.no_grad()
def _fill(tensors: Mapping[str, Tensor]) -> None:
    """Fill every tensor so that it counts in the logits."""
    torch.manual_seed(0)
    for name, tensor in tensors.items():
        leaf = name.rsplit(".", 1)[-1]
        if not tensor.is_floating_point():
            continue
        if leaf in ("gamma", "layer_scale", "running_var") or (leaf == "weight" and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5)
        elif leaf.endswith("weight"):
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
        else:
            tensor.normal_(0, 0.2)


def _give(tensors: Mapping[str, Tensor], other: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    for name, own in names.items():
        other[name].data = tensors[own].detach().reshape(other[name].shape)


@torch.no_grad()
def _difference(model: nn.Module, other: nn.Module, size: int) -> float:
    """Return by how much the logits differ, in parts of the largest, once it is sure that they depend on the image."""
    images = torch.randn(2, 3, size, size)
    logits = model(images)
    largest = logits.abs().max()
    assert (logits[0] - logits[1]).abs().max() > 1e-4 * largest
    return float((other(images) - logits).abs().max() / largest)


def _require_all_named(architecture: str, own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Both sides' tensors are all there, once each, in both directions, and a name both have is of one tensor."""
    names = other_names(architecture, own)
    assert set(names) == {name for name in other if not _derived(name)}
    assert sorted(names.values()) == sorted(name for name in own if not _derived(name))
    assert all(here == there for there, here in names.items() if there in own)
    assert other_names(equivalent(architecture) or "", other) == {here: there for there, here in names.items()}


def _require_same_shapes(own: Mapping[str, Tensor], other: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """But for the two layouts."""
    for there, here in names.items():
        shapes = {tuple(own[here].shape), tuple(other[there].shape)}
        if {there, here} & {"pre_logits.fc1.weight", "pre_logits.fc2.weight"}:
            assert shapes in ({(4096, 25088), (4096, 512, 7, 7)}, {(4096, 4096), (4096, 4096, 1, 1)})
        elif there.endswith((".gamma", ".layer_scale")):
            channels = min(shapes, key=len)[0]
            assert shapes == {(channels,), (channels, 1, 1)}
        else:
            assert len(shapes) == 1


def _require_same(architecture: str, size: int) -> None:
    model, other = _build(architecture, size), _build(equivalent(architecture) or "", size)
    own, others = _tensors(model), _tensors(other)
    names = other_names(architecture, own)
    _require_all_named(architecture, own, others)
    _require_same_shapes(own, others, names)
    _fill(own)
    _give(own, others, names)
    assert _difference(model, other, size) < 1e-5


def _size(arch: str) -> int:
    """Return the size that timm's network is made for where another would not do, else a small one."""
    if arch.startswith("swin") or arch == "vgg11":  # one vgg with 7 x 7 features, as its first linear layer wants them
        return 224
    return 56 if arch == "vit_huge_patch14_224" else 64


@pytest.mark.parametrize(("arch", "size"), SMALL)
def test_timm_s_tensors_give_the_same_logits_in_torchvision(arch: str, size: int) -> None:
    _require_same(f"timm/{arch}", size)


@pytest.mark.parametrize(("arch", "size"), [(PAIRS[arch], size) for arch, size in SMALL])
def test_torchvision_s_tensors_give_the_same_logits_in_timm(arch: str, size: int) -> None:
    _require_same(f"torchvision/{arch}", size)


@pytest.mark.slow
@pytest.mark.parametrize("arch", PAIRS)
def test_every_pair_gives_the_same_logits(arch: str) -> None:
    _require_same(f"timm/{arch}", _size(arch))


def test_the_table_names_architectures_of_both_libraries() -> None:
    assert all(timm.is_model(arch) for arch in PAIRS)
    assert set(PAIRS.values()) <= set(list_models(module=torchvision.models))
    assert set(PAIRS.values()).isdisjoint(ALONE)
    assert set(PAIRS.values()) | set(ALONE) == set(list_models(module=torchvision.models))


def test_what_is_one_network_in_torchvision_may_be_two_in_timm() -> None:
    assert equivalent("timm/deit_base_patch16_224") == "torchvision/vit_b_16"
    assert equivalent("torchvision/vit_b_16") == "timm/vit_base_patch16_224"


@pytest.mark.parametrize("arch", TWINS)
def test_what_only_looks_the_same_in_timm_has_no_equal(arch: str) -> None:
    assert timm.is_model(arch)
    assert equivalent(f"timm/{arch}") is None
    assert other_names(f"timm/{arch}", ["conv1.weight", "conv_stem.weight", "features.conv0.weight"]) == {}


@pytest.mark.parametrize("arch", ALONE)
def test_what_torchvision_has_alone_has_no_equal(arch: str) -> None:
    assert equivalent(f"torchvision/{arch}") is None
    assert other_names(f"torchvision/{arch}", ["features.0.0.weight", "conv1.weight"]) == {}


@pytest.mark.parametrize(
    "architecture",
    ["", "resnet18", "timm/", "timm/resnet18.tv_in1k", "other/resnet18", "timm/mobilenet_v2", "torchvision/vit_base"],
)
def test_an_unknown_architecture_has_no_equal(architecture: str) -> None:
    assert equivalent(architecture) is None
    assert other_names(architecture, ["conv1.weight"]) == {}


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("timm/resnet18", "conv10.weight"),
        ("timm/convnext_tiny", "stages.0.blocks.0.gamma_2"),
        ("torchvision/convnext_tiny", "features.x.0.block.0.weight"),
        ("torchvision/mobilenet_v2", "features.0.conv.3.weight"),
        ("torchvision/swin_t", "features.1.0.attn.relative_position_index"),
    ],
)
def test_a_name_that_no_rule_fits_has_no_entry(architecture: str, name: str) -> None:
    assert other_names(architecture, [name]) == {}


@pytest.mark.parametrize(("epsilon", "same"), [(1e-5, False), (1e-3, True)])
def test_the_epsilon_of_its_norms_alone_sets_mobilenet_v3_apart(epsilon: float, same: bool) -> None:
    model, other = _build("timm/mobilenetv3_small_100", 64), _build("torchvision/mobilenet_v3_small", 64)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.eps == 1e-5
            norm.eps = epsilon
    own, others = _tensors(model), _tensors(other)
    _fill(own)
    _give(own, others, dict(zip(others, own, strict=True)))
    difference = _difference(model, other, 64)
    assert difference < 1e-5 if same else difference > 1e-3


def test_padding_sets_the_tf_efficientnets_apart() -> None:
    model, other = _build("timm/tf_efficientnet_b0", 64), _build("torchvision/efficientnet_b0", 64)
    for norm in [*model.modules(), *other.modules()]:
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 1e-3
    own, others = _tensors(model), _tensors(other)
    _fill(own)
    _give(own, others, other_names("timm/efficientnet_b0", own))
    assert _difference(model, other, 64) > 1e-3
