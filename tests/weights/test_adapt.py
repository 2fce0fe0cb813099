"""Tensors of another shape: what timm and torchvision make of them when they load is the reference."""

import warnings
from collections import OrderedDict
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import RelPosBiasTf, resample_abs_pos_embed, resize_rel_pos_bias_table_levit
from timm.models.vision_transformer_sam import get_rel_pos
from timm.models.volo import VOLO
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from zoo.meta import on_meta
from zoo.weights.adapt import Adapted, adapt

# timm's own loading warns of these, whoever calls it.
pytestmark = pytest.mark.filterwarnings("ignore:.*non-tuple sequence", "ignore:.*searchsorted.* non-contiguous")

NARROW = {"depth": 1, "embed_dim": 32, "num_heads": 2}
SWIN = {"depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 2, 2, 2)}
CASES = [
    ("test_vit", {}, {"img_size": 224}, {"positions 10 x 10 to 14 x 14"}),
    ("test_vit", {}, {"img_size": (96, 160)}, {"positions 10 x 10 to 6 x 10"}),
    ("test_vit", {}, {"patch_size": 8}, {"patches 16 x 16 to 8 x 8", "positions 10 x 10 to 20 x 20"}),
    ("test_vit", {}, {"img_size": 60, "patch_size": 6}, {"patches 16 x 16 to 6 x 6"}),
    ("test_vit", {}, {"img_size": 192, "in_chans": 1}, {"input channels 3 to 1", "positions 10 x 10 to 12 x 12"}),
    ("test_vit2", {}, {"img_size": 96, "dynamic_img_size": True}, {"positions 10 x 10 to 6 x 6"}),
    ("vit_tiny_patch16_224", {**NARROW, "reg_tokens": 4}, {"img_size": 192}, {"positions 14 x 14 to 12 x 12"}),
    ("vit_small_patch14_reg4_dinov2", NARROW, {"img_size": 224}, {"positions 37 x 37 to 16 x 16"}),
    ("deit3_small_patch16_224", NARROW, {"img_size": 192}, {"positions 14 x 14 to 12 x 12"}),
    ("deit_tiny_distilled_patch16_224", NARROW, {"img_size": (160, 192)}, {"positions 14 x 14 to 10 x 12"}),
    ("vit_base_patch16_siglip_224", NARROW, {"img_size": 256}, {"positions 14 x 14 to 16 x 16"}),
    ("vit_medium_patch16_gap_240", NARROW, {"img_size": 192}, {"positions 15 x 15 to 12 x 12"}),
    ("flexivit_small", NARROW, {"patch_size": 12}, {"patches 16 x 16 to 12 x 12", "positions 15 x 15 to 20 x 20"}),
    ("eva02_tiny_patch14_224", NARROW, {"img_size": 112}, {"positions 16 x 16 to 8 x 8"}),
    ("beit_base_patch16_224", NARROW, {"img_size": 192}, {"relative positions, window 14 x 14 to 12 x 12"}),
    (
        "beit_base_patch16_224",
        {**NARROW, "use_shared_rel_pos_bias": True, "use_rel_pos_bias": False, "use_abs_pos_emb": True},
        {"img_size": (128, 192)},
        {"relative positions, window 14 x 14 to 8 x 12", "positions 14 x 14 to 8 x 12"},
    ),
    (
        "swin_tiny_patch4_window7_224",
        SWIN,
        {"img_size": (256, 192), "window_size": (8, 6), "in_chans": 4},
        {"relative positions, window 7 x 7 to 8 x 6", "input channels 3 to 4"},
    ),
    ("swin_tiny_patch4_window7_224", SWIN, {"img_size": 448, "patch_size": 8}, {"patches 4 x 4 to 8 x 8"}),
    ("swinv2_tiny_window8_256", SWIN, {"img_size": 192, "window_size": 6, "in_chans": 1}, {"input channels 3 to 1"}),
    (
        "test_coatnet",
        {},
        {"img_size": 224},
        {"relative positions, window 5 x 5 to 7 x 7", "relative positions, window 10 x 10 to 14 x 14"},
    ),
    (
        "vit_relpos_base_patch16_cls_224",
        {**NARROW, "rel_pos_type": "bias"},
        {"img_size": 192},
        {"relative positions, window 14 x 14 to 12 x 12"},
    ),
    (
        "efficientvit_m0",
        {"embed_dim": (16, 16, 16), "num_heads": (1, 1, 1), "key_dim": (8, 8, 8)},
        {"img_size": 192},
        {"relative positions 7 x 7 to 6 x 6", "relative positions 4 x 4 to 3 x 3"},
    ),
    (
        "tiny_vit_5m_224",
        {"embed_dims": (16, 16, 32, 32), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)},
        {"window_sizes": (7, 7, 12, 7)},
        {"relative positions 14 x 14 to 12 x 12"},
    ),
    (
        "tnt_s_patch16_224",
        {"depth": 1, "embed_dim": 32, "num_heads_outer": 2},
        {"img_size": 192},
        {"positions 14 x 14 to 12 x 12"},
    ),
    *(
        (arch, smaller, {"in_chans": channels}, {f"input channels 3 to {channels}"})
        for arch, smaller, channels in (
            ("resnet18", {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8)}, 1),
            ("resnet18", {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8)}, 4),
            ("resnet18", {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8)}, 6),
            ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}, 1),
            ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}, 6),
            ("mobilenetv3_small_050", {}, 4),
        )
    ),
]

NAMES = [f"{arch}-{number}" for number, (arch, *_) in enumerate(CASES)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """So small are the matrices here that threads only get into each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def empty(arch: str, **arguments: Any) -> nn.Module:
    """An architecture of timm without values."""
    with on_meta():
        model: nn.Module = timm.create_model(arch, **arguments)
    return model


def drawn(model: nn.Module) -> dict[str, Tensor]:
    """A state dict for the model, of random numbers."""
    torch.manual_seed(0)
    return {
        name: torch.randn(tensor.shape) if tensor.is_floating_point() else torch.zeros(tensor.shape, dtype=tensor.dtype)
        for name, tensor in model.state_dict().items()
    }


def adapted(name: str, value: Tensor, model: nn.Module) -> Adapted | None:
    return adapt(name, value, model.state_dict()[name], model)


def values(name: str, value: Tensor, model: nn.Module) -> Tensor:
    found = adapted(name, value, model)
    assert found is not None
    return found.values


@pytest.mark.parametrize(("arch", "smaller", "changes", "hows"), CASES, ids=NAMES)
def test_every_misfit_becomes_what_timm_makes_of_it(arch, smaller, changes, hows):
    state = drawn(empty(arch, **smaller))
    overlay = {"state_dict": dict(state)}
    theirs = timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=overlay, **{**smaller, **changes})
    model, loaded, seen = empty(arch, **{**smaller, **changes}), theirs.state_dict(), set()
    for name, tensor in model.state_dict().items():
        if state[name].shape != tensor.shape:
            found = adapt(name, state[name], tensor, model)
            assert found is not None, name
            assert torch.equal(found.values, loaded[name]), name
            seen.add(found.how)
            assert found.kind in ("channels", "patches", "positions")
    assert seen == hows


def test_halves_are_rounded_once():
    model, value = empty("test_vit", img_size=224), torch.randn(1, 101, 64).half()
    found = values("pos_embed", value, model)
    assert found.dtype == torch.float32
    assert torch.equal(found.half(), resample_abs_pos_embed(value, [14, 14]))
    # Three of the largest number are too many for a half.
    large = torch.full((64, 3, 16, 16), 60000.0).half()
    assert values("patch_embed.proj.weight", large, empty("test_vit", in_chans=1)).max() > 65504


def test_what_would_not_be_finite_is_left_alone():
    large = torch.full((64, 3, 16, 16), 2e38)
    assert adapted("patch_embed.proj.weight", large, empty("test_vit", in_chans=1)) is None
    assert adapted("patch_embed.proj.weight", large.double() * 10, empty("test_vit", in_chans=4)) is None


# torchvision


def torchvision_vit(image_size: int, patch_size: int) -> VisionTransformer:
    with on_meta():
        return VisionTransformer(image_size, patch_size, num_layers=1, num_heads=2, hidden_dim=32, mlp_dim=32)


@pytest.mark.parametrize("size", [96, 160, 320])
def test_torchvisions_positions_are_resampled_by_torchvision(size):
    state = drawn(torchvision_vit(224, 16))
    name, model = "encoder.pos_embedding", torchvision_vit(size, 16)
    theirs = interpolate_embeddings(size, 16, OrderedDict(state))[name]
    found = values(name, state[name], model)
    assert torch.equal(found, theirs)
    # Its corners stay where they are; those of timm's move inwards.
    assert torch.allclose(found[:, 1], state[name][:, 1])
    assert not torch.allclose(found, resample_abs_pos_embed(state[name], [size // 16, size // 16]), atol=1e-2)


def test_torchvisions_patches_and_channels():
    state = drawn(torchvision_vit(224, 16))
    found = adapted("conv_proj.weight", state["conv_proj.weight"], torchvision_vit(224, 8))
    assert found is not None
    assert found.how == "patches 16 x 16 to 8 x 8"
    grey = resnet18()
    grey.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    weight = torch.randn(64, 3, 7, 7)
    assert torch.equal(values("conv1.weight", weight, grey), weight.sum(1, keepdim=True))


# Models of one's own


class Net(nn.Module):
    """A timm model somewhere within another."""

    def __init__(self, backbone: nn.Module, before: nn.Module | None = None) -> None:
        super().__init__()
        self.before = before or nn.Identity()
        self.backbone = backbone
        self.after = nn.Conv2d(4, 4, 1)


def test_a_timm_model_is_known_within_another():
    model = Net(empty("test_vit", img_size=224, in_chans=4))
    found = adapted("backbone.pos_embed", torch.randn(1, 101, 64), model)
    assert found is not None
    assert found.how == "positions 10 x 10 to 14 x 14"
    found = adapted("backbone.patch_embed.proj.weight", torch.randn(64, 3, 16, 16), model)
    assert found is not None
    assert found.how == "input channels 3 to 4"


def test_only_what_sees_the_image_gets_other_channels():
    weight = torch.randn(64, 3, 16, 16)
    behind = Net(empty("test_vit", in_chans=4), before=nn.Conv2d(6, 4, 1))
    assert adapted("backbone.patch_embed.proj.weight", weight, behind) is None
    assert adapted("before.weight", torch.randn(4, 3, 1, 1), behind) is not None
    assert adapted("after.weight", torch.randn(4, 3, 1, 1), behind) is None
    # Some of timm's models have several input convolutions, and some have none: csatv2 begins with frequencies.
    model = empty("test_vit", in_chans=4)
    model.pretrained_cfg["first_conv"] = ("patch_embed.other", "patch_embed.proj")
    assert adapted("patch_embed.proj.weight", weight, model) is not None
    model.pretrained_cfg["first_conv"] = []
    assert adapted("patch_embed.proj.weight", weight, model) is None
    grouped = nn.Sequential(nn.Conv2d(8, 4, 1, groups=2))
    assert adapted("0.weight", torch.randn(4, 3, 1, 1), grouped) is None


# Class tokens


def test_a_class_tokens_position_is_dropped_only_for_a_model_without_one():
    value = torch.randn(1, 197, 32)
    for arch in ("vit_medium_patch16_gap_240", "vit_base_patch16_siglip_224"):
        model = empty(arch, **{**NARROW, "img_size": 192})
        found = adapted("pos_embed", value, model)
        assert found is not None
        assert found.how == "positions 14 x 14 to 12 x 12 without the class token's"
        assert torch.equal(found.values, resample_abs_pos_embed(value[:, 1:], [12, 12], num_prefix_tokens=0))
    same = empty("vit_base_patch16_siglip_224", **NARROW)
    assert torch.equal(values("pos_embed", value, same), value[:, 1:])
    assert torch.equal(
        values("pos_embed", value, empty("vit_medium_patch16_reg4_gap_256", **NARROW, img_size=224)), value[:, 1:]
    )
    # It has a class token, without a position: the file's would have to be added to the token.
    assert adapted("pos_embed", value, empty("deit3_small_patch16_224", **NARROW)) is None
    assert adapted("pos_embed", value, empty("cait_xxs24_224", **NARROW)) is None


def test_a_position_that_the_file_lacks_is_not_made_up():
    value = torch.randn(1, 196, 32)
    assert adapted("pos_embed", value, empty("vit_tiny_patch16_224", **NARROW)) is None
    assert adapted("pos_embed", value, empty("beit_base_patch16_224", **NARROW, use_abs_pos_emb=True)) is None
    assert adapted("encoder.pos_embedding", value, torchvision_vit(224, 16)) is None
    plain = torch.randn(1, 197, 32)
    assert adapted("pos_embed", plain, empty("deit_tiny_distilled_patch16_224", **NARROW)) is None


# Families that timm does not resample when it loads


def test_positions_without_a_class_token_beside_it():
    value = torch.randn(1, 196, 32)
    for arch, width in (("cait_xxs24_224", 32), ("convit_tiny", 16)):
        model = empty(arch, depth=1, embed_dim=width, num_heads=2, img_size=(192, 96))
        expected = resample_abs_pos_embed(value, [12, 6], num_prefix_tokens=0)
        assert torch.equal(values("pos_embed", value, model), expected)


def test_maps_of_positions():
    value = torch.randn(1, 8, 14, 12)
    resampled = F.interpolate(value, (12, 16), mode="bicubic", antialias=True)
    with on_meta():
        volo = VOLO((1, 1, 1, 1), (192, 256), embed_dims=(8, 8, 8, 8), num_heads=(1, 1, 1, 1), stem_hidden_dim=8)
    assert torch.equal(values("pos_embed", value.permute(0, 2, 3, 1), volo), resampled.permute(0, 2, 3, 1))
    pit = empty("pit_ti_224", img_size=192, base_dims=(4, 4, 4), heads=(2, 2, 2), depth=(1, 1, 1))
    side = pit.state_dict()["pos_embed"].shape[-1]
    expected = F.interpolate(value, (side, side), mode="bicubic", antialias=True)
    assert torch.equal(values("pos_embed", value, pit), expected)
    assert adapted("pos_embed", torch.randn(1, 9, 14, 12), pit) is None


def test_sam_stretches_its_positions_as_it_does_itself():
    model = empty("samvit_base_patch16_224", **NARROW, use_abs_pos=True, img_size=320, global_attn_indexes=(0,))
    found = adapted("pos_embed", torch.randn(1, 14, 14, 32), model)
    assert found is not None
    assert found.how == "positions 14 x 14 to 20 x 20"
    table = torch.randn(27, 16)
    stretched = values("blocks.0.attn.rel_pos_h", table, model)
    assert torch.equal(get_rel_pos(20, 20, stretched), get_rel_pos(20, 20, table))
    assert adapted("blocks.0.attn.rel_pos_w", torch.randn(26, 16), model) is None


def test_levits_offsets():
    model = empty("levit_128s", img_size=192, embed_dim=(16, 16, 16), num_heads=(2, 2, 2), depth=(1, 1, 1))
    names = [name for name in model.state_dict() if name.endswith("attention_biases")]
    assert len(names) == 5
    table = torch.randn(2, 196)
    expected = resize_rel_pos_bias_table_levit(table.T, (144, 2)).T
    assert torch.equal(values(names[0], table, model), expected)
    assert adapted(names[0], torch.randn(2, 195), model) is None
    assert adapted(names[0], torch.randn(3, 196), model) is None
    oblong = empty("levit_128s", img_size=(192, 96), embed_dim=(16, 16, 16), num_heads=(2, 2, 2), depth=(1, 1, 1))
    assert adapted(names[0], table, oblong) is None


def test_a_window_as_a_map():
    ours, theirs = nn.Sequential(RelPosBiasTf((8, 6), 2)), RelPosBiasTf((7, 5), 2)
    name = "0.relative_position_bias_table"
    value = theirs.relative_position_bias_table.detach().clone()
    theirs.set_window_size((8, 6))
    assert torch.equal(values(name, value, ours), theirs.relative_position_bias_table)
    assert adapted(name, torch.randn(2, 12, 9), ours) is None


# What resampling keeps, whoever wrote it


def test_a_gradient_of_relative_positions_stays_one():
    model = empty("swin_tiny_patch4_window7_224", **SWIN, img_size=256, window_size=8)
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    row = torch.arange(-6.0, 7.0)[:, None].expand(13, 13)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = values(name, row.reshape(169, 1).clone(), model).view(15, 15)
    assert torch.allclose(found, found[:, :1].expand(15, 15), atol=1e-5)
    assert bool((found[1:] >= found[:-1]).all())
    assert found[7].abs().max() < 1e-6
    assert torch.allclose(found[:, 0], -found[:, 0].flip(0), atol=1e-5)


@pytest.mark.parametrize("size", [96, 160, 224, 384])
def test_equal_positions_stay_equal(size):
    value = torch.randn(1, 1, 64).expand(1, 101, 64).clone()
    model = empty("test_vit", img_size=size + 16)
    assert torch.allclose(values("pos_embed", value, model), value[:, :1], atol=1e-5)


def test_there_and_back_is_nearly_the_same():
    smooth = F.interpolate(torch.randn(1, 64, 3, 3), (10, 10), mode="bicubic").flatten(2).transpose(1, 2)
    value = torch.cat([torch.randn(1, 1, 64), smooth], dim=1)
    larger = values("pos_embed", value, empty("test_vit", img_size=320))
    back = values("pos_embed", larger, empty("test_vit"))
    assert torch.equal(back[:, 0], value[:, 0])
    assert (back - value).abs().mean() < 0.05


def test_larger_patches_answer_a_larger_image_alike():
    small = torch.randn(64, 3, 8, 8)
    large = values("patch_embed.proj.weight", small, empty("test_vit"))
    image = torch.randn(1, 3, 8, 8)
    enlarged = F.interpolate(image, (16, 16), mode="bicubic", antialias=True)
    assert torch.allclose(F.conv2d(image, small), F.conv2d(enlarged, large), atol=1e-3)


# What is not understood


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("pos_embed", (1, 101, 32)),  # another width
        ("pos_embed", (1, 102, 64)),  # no square
        ("pos_embed", (1, 1, 64)),  # no grid
        ("pos_embed", (2, 101, 64)),
        ("pos_embed", (1, 197, 64)),  # the same shape
        ("pos_embed", (197, 64)),
        ("patch_embed.proj.weight", (32, 3, 8, 8)),  # another width
        ("patch_embed.proj.weight", (64, 1, 8, 8)),  # other channels too
        ("patch_embed.proj.weight", (64, 4, 16, 16)),  # not from RGB
        ("patch_embed.proj.bias", (32,)),
        ("blocks.0.mlp.fc1.weight", (128, 64)),
        ("blocks.0.norm1.weight", (32,)),
        ("head.weight", (10, 64)),
        ("cls_token", (1, 2, 64)),
        ("nothing", (1, 2)),
        ("blocks.nothing.weight", (1, 2)),
        ("", (1, 2)),
    ],
)
def test_no_rule(name, shape):
    model = empty("test_vit", img_size=224)
    wanted = model.state_dict().get(name, torch.empty(3, 3))
    assert adapt(name, torch.randn(shape), wanted, model) is None


def test_no_rule_for_other_layers_types_and_weights():
    net = empty("resnet18")
    assert adapted("layer1.0.conv1.weight", torch.randn(64, 3, 3, 3), net) is None
    assert adapted("conv1.weight", torch.randn(64, 3, 3, 3), net) is None
    whole = torch.zeros(1, 101, 64, dtype=torch.int64)
    vit = empty("test_vit", img_size=224)
    assert adapted("pos_embed", whole, vit) is None
    assert adapted("pos_embed", whole.to(torch.complex64), vit) is None
    assert adapted("pos_embed", torch.empty(1, 101, 64, device="meta"), vit) is None
    # The model's tensor is not the one that is asked for.
    assert adapt("pos_embed", torch.randn(1, 101, 64), torch.empty(1, 145, 64), vit) is None
    # How its positions are resampled depends on the version of the weights.
    radio = empty("vit_base_patch16_siglip_224", **NARROW)
    assert adapted("pos_embed", torch.randn(1, 144, 32), radio) is not None
    radio.pretrained_cfg["architecture"] = "vit_base_patch16_radio"
    assert adapted("pos_embed", torch.randn(1, 144, 32), radio) is None
    assert adapted("patch_embed.proj.weight", torch.randn(32, 3, 8, 8), radio) is None


def test_a_parameter_of_ones_own_is_not_known_by_its_name():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pos_embed = nn.Parameter(torch.zeros(1, 197, 8))
            self.relative_position_bias_table = nn.Parameter(torch.zeros(169, 2))
            self.attention_biases = nn.Parameter(torch.zeros(2, 196))

    assert adapted("pos_embed", torch.randn(1, 101, 8), Own()) is None
    assert adapted("relative_position_bias_table", torch.randn(225, 2), Own()) is None
    assert adapted("attention_biases", torch.randn(2, 144), Own()) is None


# Nothing else changes


def test_neither_the_model_nor_the_file_is_touched():
    model = timm.create_model("test_vit", img_size=160, class_token=False, global_pool="avg")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    value = torch.randn(1, 101, 64)
    copy = value.clone()
    found = values("pos_embed", value, model)
    found.zero_()
    assert torch.equal(value, copy)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not found.requires_grad
    assert found.is_contiguous()


def test_torchs_default_device_does_not_matter():
    model = empty("swin_tiny_patch4_window7_224", **SWIN, img_size=256, window_size=8, patch_size=8)
    table, patch = torch.randn(169, 1), torch.randn(16, 3, 4, 4)
    with torch.device("meta"):
        found = values("layers.0.blocks.0.attn.relative_position_bias_table", table, model)
        projection = values("patch_embed.proj.weight", patch, model)
    assert (found.device.type, projection.device.type) == ("cpu", "cpu")


MODELS = [
    empty("test_vit", img_size=(96, 64), in_chans=2, patch_size=8),
    empty("deit3_small_patch16_224", **NARROW, img_size=64, in_chans=1),
    empty("vit_base_patch16_siglip_224", **NARROW, img_size=64),
    empty("beit_base_patch16_224", **NARROW, img_size=64, use_abs_pos_emb=True),
    empty("swin_tiny_patch4_window7_224", **SWIN, img_size=64, window_size=(2, 4)),
    empty("samvit_base_patch16_224", **NARROW, use_abs_pos=True, img_size=64, global_attn_indexes=(0,)),
    empty("levit_128s", img_size=64, embed_dim=(16, 16, 16), num_heads=(1, 2, 2), depth=(1, 1, 1)),
    nn.Sequential(RelPosBiasTf((3, 2), 2)),
    torchvision_vit(64, 16),
]
TENSORS = [(model, name) for model in MODELS for name in model.state_dict()]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int32]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_whatever_the_shape_nothing_is_raised_and_the_result_fits(data):
    model, name = data.draw(st.sampled_from(TENSORS))
    wanted = model.state_dict()[name]
    side = st.integers(0, 30) | st.sampled_from([3, 49, 50, 169, 172, 196, 197])
    near = st.tuples(*(st.just(side_) | side for side_ in wanted.shape))
    shape = data.draw(near | st.lists(st.integers(0, 9), max_size=5).map(tuple))
    value = torch.randn(shape).to(data.draw(st.sampled_from(DTYPES)))
    found = adapt(name, value, wanted, model)
    if found is not None:
        assert found.values.shape == wanted.shape
        assert found.values.shape != value.shape
        assert bool(torch.isfinite(found.values).all())
        assert found.how
