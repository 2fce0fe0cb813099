"""timm's architectures as backbones."""

from collections.abc import Callable

import pytest
import timm
import torch
from timm.data import resolve_data_config
from timm.models import get_arch_pretrained_cfgs
from torch import nn

from zoo.backbones.timm import _find_input, architectures, build
from zoo.errors import ZooError
from zoo.meta import on_meta
from zoo.registry.builtin.backbones import TimmOptions
from zoo.registry.contracts import Backbone, InputSpec

Check = Callable[[Backbone, tuple[int, int]], None]
ShapeCheck = Callable[[Backbone, tuple[int, int] | None], None]
# The vision encoders of language models: they give tokens (B, N, C), and timm gives them no classifier.
NOT_BACKBONES = frozenset(
    {
        "deepseek_vit_412m_enc",
        "gemma4_vit_167m_enc",
        "gemma4_vit_570m_enc",
        "qwen3_vit_306m_enc",
        "qwen3_vit_416m_enc",
        "qwen3_vit_88m_enc",
    }
)
# This one gives (B, C, H, W).
WITH_HEIGHT_AND_WIDTH = frozenset({"mobilenetv5_300m_enc"})
# arch, image size, native classifier
SMALL = [
    ("test_resnet", (64, 48), "fc"),
    ("resnet10t", (64, 64), "fc"),
    ("resnet18.a1_in1k", (64, 64), "fc"),
    ("mobilenetv3_small_050", (64, 64), "classifier"),
    ("mobilenetv4_conv_small", (64, 64), "classifier"),
    ("convnext_atto", (64, 64), "head.fc"),
    ("tf_efficientnet_lite0", (64, 64), "classifier"),
    ("test_vit", (64, 48), "head"),
    ("levit_128s", (64, 64), None),
    ("deit_tiny_distilled_patch16_224", (64, 64), None),
    ("dpn68", (64, 64), None),
]
LARGE = [("vgg11", "head.fc"), ("swin_tiny_patch4_window7_224", "head.fc"), ("resnetv2_50x1_bit", None)]


@pytest.mark.parametrize(("arch", "size", "classifier"), SMALL)
def test_build(arch: str, size: tuple[int, int], classifier: str | None, check_all: Check) -> None:
    backbone = build(TimmOptions(arch=arch), size)
    assert backbone.native.classifier == classifier
    check_all(backbone, size)


@pytest.mark.parametrize(("arch", "classifier"), LARGE)
def test_build_on_the_meta_device(arch: str, classifier: str | None, check_shapes: ShapeCheck) -> None:
    with torch.device("meta"):
        backbone = build(TimmOptions(arch=arch), None)
    assert backbone.native.classifier == classifier
    assert {parameter.device.type for parameter in backbone.module.parameters()} == {"meta"}
    check_shapes(backbone, None)


def test_stages_of_a_resnet() -> None:
    backbone = build(TimmOptions(arch="test_resnet"), None)
    assert backbone.stages == ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


def test_stages_of_a_vit() -> None:
    backbone = build(TimmOptions(arch="test_vit"), (32, 32))
    blocks = tuple(f"blocks.{index}" for index in range(len(backbone.module.get_submodule("blocks"))))
    assert backbone.stages == ("cls_token", "pos_embed", "patch_embed", *blocks, "norm")


def test_the_seed_decides_and_not_the_probing() -> None:
    torch.manual_seed(0)
    module = build(TimmOptions(arch="test_resnet"), None).module
    torch.manual_seed(0)
    native = timm.create_model("test_resnet", num_classes=2)
    assert torch.equal(module.get_parameter("layer4.0.conv1.weight"), native.get_parameter("layer4.0.conv1.weight"))


@pytest.mark.parametrize(
    ("arch", "size", "code"),
    [
        ("resnet10t.c3_in1k", (64, 64), 'timm.create_model("resnet10t", num_classes=classes)'),
        ("test_vit", (64, 48), 'timm.create_model("test_vit", num_classes=classes, img_size=(64, 48))'),
        ("test_vit", None, 'timm.create_model("test_vit", num_classes=classes)'),
    ],
)
def test_native_code_makes_what_native_build_makes(arch: str, size: tuple[int, int] | None, code: str) -> None:
    native = build(TimmOptions(arch=arch), size).native
    assert native.code == code
    made: nn.Module = eval(code, {"timm": timm, "classes": 7})
    shapes = {name: tensor.shape for name, tensor in native.build(7).state_dict().items()}
    assert {name: tensor.shape for name, tensor in made.state_dict().items()} == shapes
    assert native.identity == "timm/" + arch.split(".")[0]


def test_the_input_spec_is_the_tag_s() -> None:
    assert build(TimmOptions(arch="tf_efficientnet_lite0.in1k"), (64, 64)).input == InputSpec(
        size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", crop_pct=0.875
    )


def test_the_input_spec_is_what_timm_resolves() -> None:
    for arch in architectures()[::25]:
        for name, wanted in get_arch_pretrained_cfgs(arch).items():
            config = resolve_data_config(pretrained_cfg=wanted.to_dict())
            assert _find_input(name) == InputSpec(
                size=tuple(config["input_size"][1:]),
                mean=tuple(config["mean"]),
                std=tuple(config["std"]),
                interpolation=config["interpolation"],
                crop_pct=min(config["crop_pct"], 1.0),
            )


def test_drop_path_reaches_the_last_block() -> None:
    module = build(TimmOptions(arch="resnet10t", drop_path=0.2), None).module
    assert module.get_submodule("layer4.0.drop_path").drop_prob == pytest.approx(0.2)


def test_drop_path_of_an_architecture_without_it_is_refused() -> None:
    with pytest.raises(ZooError) as caught:
        build(TimmOptions(arch="vgg11", drop_path=0.1), (64, 64))
    assert str(caught.value) == (
        "timm/vgg11 has no stochastic depth\n  where: [backbone] drop_path\n  mend:  leave it out"
    )


def test_an_image_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ZooError) as caught:
        build(TimmOptions(arch="maxvit_tiny_rw_224"), (100, 100))
    assert caught.value.problems[0].what.startswith("timm/maxvit_tiny_rw_224 cannot take images of 100 x 100 pixels: ")
    assert caught.value.problems[0].where == "[data] image_size"
    assert caught.value.problems[0].hint == "its weights expect 224 x 224"


def test_an_unknown_tag_is_refused() -> None:
    with pytest.raises(ZooError) as caught:
        build(TimmOptions(arch="resnet10t.c4_in1k"), None)
    assert str(caught.value) == (
        "timm has no weights 'resnet10t.c4_in1k'\n  where: [backbone] arch\n  mend:  did you mean 'resnet10t.c3_in1k'?"
    )


def test_an_unknown_name_is_refused_when_the_recipe_could_not_tell() -> None:
    with pytest.raises(ZooError) as caught:
        build(TimmOptions.model_construct(arch="resnet10tt"), None)
    assert str(caught.value).startswith(
        "timm has no architecture 'resnet10tt'\n  where: [backbone] arch\n  mend:  did you mean 'resnet10t'"
    )


def _build_on_meta(arch: str, check_shapes: ShapeCheck) -> None:
    with on_meta():
        backbone = build(TimmOptions(arch=arch), None)
    assert backbone.spec.pooled == (arch not in WITH_HEIGHT_AND_WIDTH)
    check_shapes(backbone, None)


@pytest.mark.parametrize("arch", sorted(set(architectures()[::75]) - NOT_BACKBONES))
def test_a_sample_of_all_architectures(arch: str, check_shapes: ShapeCheck) -> None:
    _build_on_meta(arch, check_shapes)


@pytest.mark.slow
@pytest.mark.parametrize("arch", sorted(set(architectures()) - NOT_BACKBONES)[::6])
def test_every_sixth_architecture(arch: str, check_shapes: ShapeCheck) -> None:
    _build_on_meta(arch, check_shapes)


@pytest.mark.parametrize("arch", sorted(NOT_BACKBONES))
def test_encoders_that_give_tokens_are_refused(arch: str) -> None:
    with torch.device("meta"), pytest.raises(ZooError, match="gives features of shape") as caught:
        build(TimmOptions(arch=arch), None)
    assert caught.value.problems[0].hint == "choose an arch that ends in a classifier"
