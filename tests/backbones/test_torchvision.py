"""torchvision's classification architectures as backbones."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from zoo.backbones.torchvision import architectures, build
from zoo.errors import ZooError
from zoo.registry.builtin.backbones import TorchvisionOptions
from zoo.registry.contracts import Backbone, FeatureSpec, InputSpec

Check = Callable[[Backbone, tuple[int, int]], None]
ShapeCheck = Callable[[Backbone, tuple[int, int] | None], None]
# arch, image size, native classifier
SMALL = [
    ("resnet18", (64, 48), "fc"),
    ("mobilenet_v3_small", (64, 64), "classifier.3"),
    ("squeezenet1_1", (64, 64), None),
    ("inception_v3", (128, 128), "fc"),
    ("densenet121", (64, 64), "classifier"),
    ("shufflenet_v2_x0_5", (64, 64), "fc"),
    ("regnet_y_400mf", (64, 64), "fc"),
]
LARGE = [
    ("googlenet", (64, 64), "fc"),
    ("vit_b_16", (64, 64), "heads.head"),
    ("vit_h_14", None, "heads.head"),
    ("vgg11", (64, 64), "classifier.6"),
    ("maxvit_t", (448, 448), None),
]


@pytest.mark.parametrize(("arch", "size", "classifier"), SMALL)
def test_build(arch: str, size: tuple[int, int], classifier: str | None, check_all: Check) -> None:
    backbone = build(TorchvisionOptions(arch=arch), size)
    assert backbone.native.classifier == classifier
    check_all(backbone, size)


@pytest.mark.parametrize(("arch", "size", "classifier"), LARGE)
def test_build_on_the_meta_device(
    arch: str, size: tuple[int, int] | None, classifier: str | None, check_shapes: ShapeCheck
) -> None:
    with torch.device("meta"):
        backbone = build(TorchvisionOptions(arch=arch), size)
    assert backbone.native.classifier == classifier
    assert {parameter.device.type for parameter in backbone.module.parameters()} == {"meta"}
    check_shapes(backbone, size)


def test_building_a_regnet_on_the_meta_device_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    with torch.device("meta"):
        build(TorchvisionOptions(arch="regnet_x_400mf"), (64, 64))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_head_s_dropout_is_gone_and_the_trunk_s_stays() -> None:
    with torch.device("meta"):
        module = build(TorchvisionOptions(arch="vgg11"), (64, 64)).module
    dropouts = [name for name, layer in module.named_modules() if isinstance(layer, nn.Dropout)]
    assert dropouts == ["classifier.2"]


def test_stages_of_a_vit() -> None:
    with torch.device("meta"):
        stages = build(TorchvisionOptions(arch="vit_b_16"), None).stages
    layers = tuple(f"encoder.layers.encoder_layer_{index}" for index in range(12))
    assert stages == ("class_token", "conv_proj", "encoder.pos_embedding", *layers, "encoder.ln")


@pytest.mark.parametrize(
    ("arch", "size", "extra"),
    [
        ("resnet18", (64, 64), ""),
        ("vit_b_32", (64, 64), ", image_size=64"),
        ("maxvit_t", (448, 448), ", input_size=(448, 448)"),
        ("googlenet", None, ", aux_logits=False, init_weights=True, transform_input=True"),
    ],
)
def test_native_code_makes_what_native_build_makes(arch: str, size: tuple[int, int] | None, extra: str) -> None:
    with torch.device("meta"):
        native = build(TorchvisionOptions(arch=arch), size).native
        assert native.code == f'torchvision.models.get_model("{arch}", num_classes=classes{extra})'
        made: nn.Module = eval(native.code, {"torchvision": torchvision, "classes": 7})
        shapes = {name: tensor.shape for name, tensor in native.build(7).state_dict().items()}
    assert {name: tensor.shape for name, tensor in made.state_dict().items()} == shapes
    assert native.identity == f"torchvision/{arch}"


def test_the_input_spec_is_the_default_weights() -> None:
    with torch.device("meta"):
        expected = build(TorchvisionOptions(arch="resnet50"), (64, 64)).input
    assert expected == InputSpec(
        size=(224, 224),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        interpolation="bilinear",
        crop_pct=224 / 232,
    )


def test_a_vit_refuses_images_that_are_not_square() -> None:
    with pytest.raises(ZooError) as caught:
        build(TorchvisionOptions(arch="vit_b_16"), (64, 48))
    assert str(caught.value) == (
        "torchvision/vit_b_16 cannot take images of 64 x 48 pixels: it takes square images only\n"
        "  where: [data] image_size\n"
        "  mend:  its weights expect 224 x 224"
    )


def test_a_vit_refuses_a_size_that_its_patches_do_not_divide() -> None:
    with pytest.raises(ZooError) as caught:
        build(TorchvisionOptions(arch="vit_b_16"), (60, 60))
    assert str(caught.value) == (
        "torchvision/vit_b_16 cannot take images of 60 x 60 pixels: Input shape indivisible by patch size!\n"
        "  where: [data] image_size\n"
        "  mend:  its weights expect 224 x 224"
    )


def test_an_unknown_name_is_refused_when_the_recipe_could_not_tell() -> None:
    with pytest.raises(ZooError) as caught:
        build(TorchvisionOptions.model_construct(arch="vgg12"), None)
    assert str(caught.value) == (
        "torchvision has no architecture 'vgg12'\n"
        "  where: [backbone] arch\n"
        "  mend:  did you mean 'vgg19' or 'vgg16' or 'vgg13'?"
    )


def _build_on_meta(arch: str, check_shapes: ShapeCheck) -> None:
    with torch.device("meta"):
        backbone = build(TorchvisionOptions(arch=arch), None)
    assert backbone.spec == FeatureSpec(backbone.spec.channels)
    check_shapes(backbone, None)


@pytest.mark.parametrize("arch", architectures()[::16])
def test_a_sample_of_all_architectures(arch: str, check_shapes: ShapeCheck) -> None:
    _build_on_meta(arch, check_shapes)


@pytest.mark.slow
@pytest.mark.parametrize("arch", architectures())
def test_all_architectures(arch: str, check_shapes: ShapeCheck) -> None:
    _build_on_meta(arch, check_shapes)
