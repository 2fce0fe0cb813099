"""Which architecture a checkpoint is of: by names or shapes alone, with any classifier and prefix; and when of none."""

from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import Tensor

from zoo.registry import Registry
from zoo.registry.builtin.weights import CardOptions
from zoo.registry.contracts import WeightsRequest
from zoo.run.likely import likely, look
from zoo.run.weights import build_on_meta
from zoo.weights.card import build
from zoo.weights.likely import INDEX, Likely, counted, read_index

# One a family, and more where families are large.
FAMILIES = (
    *("timm/beit_base_patch16_224", "timm/caformer_s18", "timm/cait_xxs24_224", "timm/coatnet_0_rw_224"),
    *("timm/convit_tiny", "timm/convnext_tiny", "timm/convnextv2_atto", "timm/crossvit_9_240", "timm/cs3darknet_m"),
    *("timm/davit_tiny", "timm/deit_tiny_distilled_patch16_224", "timm/densenet121", "timm/dla34", "timm/dpn68"),
    *("timm/edgenext_small", "timm/efficientformer_l1", "timm/efficientnet_b0", "timm/efficientvit_b0"),
    *("timm/eva02_tiny_patch14_224", "timm/fastvit_t8", "timm/focalnet_tiny_srf", "timm/ghostnet_100"),
    *("timm/gmixer_24_224", "timm/hgnet_tiny", "timm/hrnet_w18_small", "timm/inception_v4", "timm/levit_128"),
    *("timm/maxvit_tiny_tf_224", "timm/mixer_b16_224", "timm/mobilenetv3_large_100", "timm/mobilevit_s"),
    *("timm/mvitv2_tiny", "timm/nfnet_f0", "timm/pit_ti_224", "timm/poolformer_s12", "timm/pvt_v2_b0"),
    *("timm/regnety_008", "timm/repvgg_a0", "timm/res2net50_26w_4s", "timm/resmlp_12_224", "timm/resnet18"),
    *("timm/resnetv2_50", "timm/rexnet_100", "timm/swin_tiny_patch4_window7_224", "timm/tiny_vit_5m_224"),
    *("timm/tnt_s_legacy_patch16_224", "timm/vgg11", "timm/vit_base_patch16_224", "timm/vit_small_patch16_384"),
    *("timm/volo_d1_224", "timm/xception41", "timm/xcit_nano_12_p8_224", "torchvision/alexnet"),
    *("torchvision/convnext_tiny", "torchvision/mobilenet_v2", "torchvision/regnet_y_400mf"),
    *("torchvision/shufflenet_v2_x1_0", "torchvision/squeezenet1_1", "torchvision/swin_t", "torchvision/vit_b_32"),
)
FEW = ("timm/mobilenetv3_small_050", "timm/test_vit", "torchvision/mobilenet_v2")


def _file(registry: Registry, architecture: str, renamed: bool = False) -> dict[str, Tensor]:
    """What training it on ten classes with DDP leaves, without numbers; `renamed`: under names that nobody knows."""
    native = build_on_meta(registry, architecture).native
    with torch.device("meta"):
        state = native.build(10).state_dict()
    names = {name: f"t{number}" if renamed else f"module.{name}" for number, name in enumerate(state)}
    return {names[name]: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("architecture", FEW)
def test_an_architecture_is_found_by_its_names(architecture: str, registry: Registry) -> None:
    found = likely(registry, _file(registry, architecture))
    assert found[0].named == found[0].elements
    assert architecture in {one.architecture for one in found if one.alike == found[0].alike}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES)
def test_architectures_of_all_families_are_found(architecture: str, registry: Registry) -> None:
    by_name = likely(registry, _file(registry, architecture))
    by_shape = likely(registry, _file(registry, architecture, renamed=True), most=100)
    assert by_name[0].named == by_name[0].elements
    assert architecture in {one.architecture for one in by_name if one.alike == by_name[0].alike}
    assert architecture in {one.architecture for one in by_shape if one.alike == by_shape[0].alike}


def test_the_weights_that_ship_are_of_both_libraries(registry: Registry, root: Path) -> None:
    inspection, found = look(registry, root / "weights/resnet50.fashion-mnist.safetensors")
    assert inspection.tensors == 320
    assert str(found[0]) == "timm/resnet50 (100 % of 23,561,152 backbone elements by name and shape)"
    assert {one.architecture for one in found if one.alike == (1, 1)} >= {"timm/resnet50", "torchvision/resnet50"}


def test_other_names_are_no_obstacle(registry: Registry, request_: WeightsRequest) -> None:
    file = build(CardOptions(card="tf_efficientnet_lite0.imagenet"), request_)
    _, found = look(registry, file.path)
    assert (
        "timm/tf_efficientnet_lite0 (100 % of 3,413,024 backbone elements by shape alone: same shapes, other names)"
    ) in map(str, found)
    assert {one.alike for one in found} == {(1, 0)}


def test_a_file_of_two_models_is_of_the_architecture_of_both(registry: Registry) -> None:
    own = _file(registry, "timm/resnet18")
    both = {f"{side}.{name}": own[name] for side in ("module.encoder_q", "module.encoder_k") for name in own}
    found = likely(registry, {**both, "module.queue": torch.empty(128, 100, device="meta")})
    assert str(found[0]) == (
        "timm/resnet18 (100 % of 11,186,112 backbone elements by name and shape, 12,800 elements of the file left over)"
    )
    assert found[0].spare == 12_800


def test_what_is_no_architecture_is_likely_none(registry: Registry, tensors: dict[str, Tensor]) -> None:
    assert likely(registry, tensors) == ()
    assert likely(registry, {}) == ()
    assert likely(registry, {"steps": torch.tensor(1)}) == ()


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Likely("a/b", 2000, 2000, 2000, 0), "a/b (100 % of 2,000 backbone elements by name and shape)"),
        (
            Likely("a/b", 2000, 1500, 1999, 7),
            "a/b (99.9 % of 2,000 backbone elements by shape, 75 % by name too, 7 elements of the file left over)",
        ),
    ],
)
def test_what_is_said_of_one(found: Likely, text: str) -> None:
    assert str(found) == text


@pytest.mark.parametrize("architecture", FEW)
def test_the_index_is_of_the_architectures_as_they_are_built(architecture: str, registry: Registry) -> None:
    index = read_index()
    if index.made != f"timm {version('timm')}, torchvision {version('torchvision').partition('+')[0]}":
        pytest.skip(f"the index is of {index.made}")
    state = build_on_meta(registry, architecture).module.state_dict()
    assert index.of(architecture) == Counter(counted(state).values())


def test_the_index_is_small_and_holds_numbers_alone(root: Path) -> None:
    assert (root / "zoo/weights" / INDEX).stat().st_size < 250_000
    index = read_index()
    assert len(index.names) == len(set(index.names)) == len(index.families)
    assert {name.partition("/")[0] for name in index.names} == {"timm", "torchvision"}
