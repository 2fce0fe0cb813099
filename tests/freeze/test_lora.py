"""Low-rank adapters: what they add, that it starts as nothing, and that merging is exact."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

from tests.train.tiny import layout, make_backbone, make_loop, make_model, resumed
from zoo import freeze
from zoo.errors import ZooError
from zoo.freeze.layout import make_layout
from zoo.freeze.lora import LowRank, LowRankAdapter, build, build_adapter, merge
from zoo.recipe.schema import CheckpointTable, OptimTable
from zoo.registry.builtin.freeze import LoraOptions
from zoo.registry.contracts import DeviceSettings, Layout
from zoo.train.loop import Loop
from zoo.weights.lowrank import merge_adapters

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def timm_vit() -> nn.Module:
    model: nn.Module = timm.create_model("test_vit", num_classes=3, img_size=32)
    return model


def timm_resnet() -> nn.Module:
    model: nn.Module = timm.create_model("test_resnet", num_classes=3)
    return model


def channels_last() -> nn.Module:
    return timm_resnet().to(memory_format=torch.channels_last)


def vit() -> nn.Module:
    sizes = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}
    model: nn.Module = VisionTransformer(image_size=32, num_classes=3, **sizes)
    nn.init.normal_(model.get_parameter("heads.head.weight"))  # torchvision's zeros would hide everything
    return model


def swin() -> nn.Module:
    sizes = {"patch_size": [4, 4], "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": [2, 2]}
    model: nn.Module = SwinTransformer(**sizes, num_classes=3)
    return model


def convolutional(make: Callable[[], nn.Module]) -> Any:
    return pytest.param(make, True, id=f"{make.__name__}-convolutions")


MODELS = [pytest.param(make, False, id=make.__name__) for make in (timm_vit, vit, swin)]
MODELS += [convolutional(make) for make in (timm_resnet, channels_last, vit)]


def made(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def layout_of(model: nn.Module) -> Layout:
    """A layout without a head: every layer is the backbone's."""
    return make_layout(model, list(dict.fromkeys(name.partition(".")[0] for name, _ in model.named_parameters())), [])


def attach(model: nn.Module, **options: Any) -> LowRankAdapter:
    adapter = LowRankAdapter(LoraOptions(**options))
    torch.manual_seed(1)
    adapter.attach(model, layout_of(model))
    return adapter


def move(model: nn.Module) -> None:
    """Give every adapter values that do something."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, LowRank):
            with torch.no_grad():
                module.up.copy_(torch.randn(module.up.shape, generator=generator))


def logits(model: nn.Module, grad: bool) -> Tensor:
    with torch.set_grad_enabled(grad):
        found: Tensor = model(IMAGES)
    return found.detach()


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(("make", "convolutions"), MODELS)
def test_an_adapted_model_starts_as_it_was(make: Callable[[], nn.Module], convolutions: bool, grad: bool) -> None:
    model = made(make)
    before = logits(model, grad)
    attach(model, convolutions=convolutions)
    assert torch.equal(logits(model, grad), before)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(("make", "convolutions"), MODELS)
def test_a_merged_model_is_the_adapted_one_bit_for_bit(
    make: Callable[[], nn.Module], convolutions: bool, grad: bool
) -> None:
    """With gradients asked for as in training, and without, where torch's attention takes its fast path."""
    model, plain = made(make), made(make)
    adapter = attach(model, convolutions=convolutions)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[2] in ("up", "down"))
    move(model)
    adapted = logits(model, grad)
    adapter.merge(model)
    model.requires_grad_(True)
    assert torch.equal(logits(model, grad), adapted)
    assert not torch.allclose(logits(plain, grad), adapted)
    state, wanted = model.state_dict(), plain.state_dict()
    assert list(state) == list(wanted)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert all(state[name].shape == wanted[name].shape for name in wanted)
    # Strides of sides of length one say nothing.
    assert all(
        state[name].is_contiguous(memory_format=torch.channels_last)
        for name in wanted
        if wanted[name].dim() == 4 and wanted[name].is_contiguous(memory_format=torch.channels_last)
    )
    assert [type(module) for module in model.modules()] == [type(module) for module in plain.modules()]
    plain.load_state_dict(state, strict=True)
    assert torch.equal(logits(plain, grad), adapted)


@pytest.mark.parametrize(("make", "convolutions"), MODELS)
def test_a_state_dict_is_merged_to_the_same_bits(make: Callable[[], nn.Module], convolutions: bool) -> None:
    model = made(make)
    attach(model, convolutions=convolutions, rank=3, alpha=7.0)
    move(model)
    merged = merge_adapters(model.state_dict())
    merge(model)
    state = model.state_dict()
    assert merged.keys() == state.keys()
    assert all(torch.equal(merged[name], state[name]) for name in state)


def test_what_does_not_fit_together_is_not_merged() -> None:
    model = made(vit)
    attach(model)
    state = model.state_dict()
    place = "encoder.layers.encoder_layer_0.mlp.0.parametrizations.weight"
    empty, wrong = torch.zeros(0, 8), torch.zeros(3, 3)
    for spoilt in (
        {f"{place}.0.scale": None},
        {f"{place}.0.up": wrong},
        {f"{place}.0.scale": torch.zeros(1)},
        {f"{place}.0.down": state[f"{place}.0.down"].half()},
        {f"{place}.original": empty},
        {"encoder.layers.encoder_layer_0.mlp.0.weight": wrong},
    ):
        found = {name: value for name, value in {**state, **spoilt}.items() if value is not None}
        merged = merge_adapters(found)
        assert merged.keys() & found.keys() >= spoilt.keys() & found.keys()
        assert f"{place}.original" in merged
    assert merge_adapters(wanted := {"a": wrong}) is wanted


def test_names_and_counts() -> None:
    model = made(vit)
    plain = {name for name, _ in model.named_parameters()}
    attach(model, rank=4)
    added = {name: tuple(p.shape) for name, p in model.named_parameters() if name.endswith((".up", ".down"))}
    layer = "encoder.layers.encoder_layer_1"
    attention, mlp = f"{layer}.self_attention", f"{layer}.mlp"
    assert {name: shape for name, shape in added.items() if name.startswith(layer)} == {
        f"{attention}.parametrizations.in_proj_weight.0.down": (4, 32),
        f"{attention}.parametrizations.in_proj_weight.0.up": (96, 4),
        f"{attention}.out_proj.parametrizations.weight.0.down": (4, 32),
        f"{attention}.out_proj.parametrizations.weight.0.up": (32, 4),
        f"{mlp}.0.parametrizations.weight.0.down": (4, 32),
        f"{mlp}.0.parametrizations.weight.0.up": (64, 4),
        f"{mlp}.3.parametrizations.weight.0.down": (4, 64),
        f"{mlp}.3.parametrizations.weight.0.up": (32, 4),
    }
    rest = {name.replace("parametrizations.", "").replace(".original", "") for name, _ in model.named_parameters()}
    assert {name for name in rest if not name.endswith((".up", ".down"))} == plain
    assert model.state_dict()[f"{mlp}.0.parametrizations.weight.0.scale"] == 16.0 / 4


def test_a_convolution_is_a_matrix() -> None:
    model = made(timm_resnet)
    attach(model, rank=2, convolutions=True, layers=["layer1.0.conv1"])
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if name.endswith((".up", ".down"))}
    out, inputs = made(timm_resnet).get_parameter("layer1.0.conv1.weight").shape[:2]
    place = "layer1.0.conv1.parametrizations.weight.0"
    assert shapes == {f"{place}.down": (2, inputs * 9), f"{place}.up": (out, 2)}


def test_layers_are_chosen_by_globs_and_an_attention_layer_with_its_output() -> None:
    model = made(vit)
    attach(model, layers=["*_layer_0.self_attention", "*_1.mlp.3"])
    adapted = {name.partition(".parametrizations")[0] for name, _ in model.named_parameters() if ".0.up" in name}
    layer = "encoder.layers.encoder_layer_"
    assert adapted == {f"{layer}0.self_attention", f"{layer}0.self_attention.out_proj", f"{layer}1.mlp.3"}


def test_random_values_follow_from_the_seed_alone() -> None:
    first, second = made(timm_vit), made(timm_vit)
    attach(first)
    attach(second)
    pairs = zip(first.named_parameters(), second.parameters(), strict=True)
    assert all(torch.equal(one, other) for (_, one), other in pairs)
    down = first.get_parameter("blocks.0.attn.qkv.parametrizations.weight.0.down")
    bound = down.shape[1] ** -0.5
    assert 0.9 * bound < down.abs().max() <= bound


def test_merging_a_copy_leaves_the_model_alone() -> None:
    model = made(vit)
    attach(model)
    move(model)
    adapted = logits(model, False)
    average = copy.deepcopy(model)
    merge(average)
    assert torch.equal(logits(average, False), adapted)
    assert torch.equal(logits(model, False), adapted)
    merge(model)
    assert torch.equal(logits(model, False), adapted)
    merge(model)  # nothing is left to merge
    assert torch.equal(logits(model, False), adapted)


def test_autocast_does_not_reach_the_sum() -> None:
    model = made(timm_vit)
    attach(model)
    move(model)
    layer: Any = model.get_submodule("blocks.0.attn.qkv")
    plain = layer.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.weight, plain)
        adapted = model(IMAGES)
        merge(model)
        assert torch.equal(model(IMAGES), adapted)


def test_rates() -> None:
    backbone = make_backbone("test_vit")
    model = make_model(backbone)
    options = LoraOptions(rate=0.5)
    build_adapter(options).attach(model, layout(backbone, model))
    rates = build(options)(layout(backbone, model), 0)
    assert rates == {
        name: 1.0 if name.startswith("heads.") else 0.5 if name.endswith((".0.up", ".0.down")) else None
        for name, _ in model.named_parameters()
    }
    assert 0.5 in rates.values()
    assert not any("parametrizations" in name for name in rates if name.startswith("heads."))


def refusal(model: nn.Module, **options: Any) -> str:
    with pytest.raises(ZooError) as caught:
        attach(model, **options)
    return str(caught.value)


def test_refusals() -> None:
    resnet = timm_resnet()
    resnet.fc = nn.Identity()
    assert refusal(resnet) == (
        "the backbone has no linear or attention layer to adapt\n  where: [freeze]\n"
        '  mend:  use convolutions = true, "norm-only", "bitfit" or "stages"'
    )
    assert refusal(nn.Sequential(nn.BatchNorm2d(3)), convolutions=True) == (
        "the backbone has no linear, attention or convolution layer to adapt\n  where: [freeze]\n"
        '  mend:  use "norm-only", "bitfit" or "stages"'
    )
    assert refusal(vit(), layers=["*.mlp.0", "*.self_atention"]) == (
        "freeze.layers has '*.self_atention', which matches no linear or attention layer of the backbone\n"
        "  where: [freeze]\n"
        "  mend:  one of: encoder.layers.encoder_layer_0.mlp.0, encoder.layers.encoder_layer_0.mlp.3, "
        "encoder.layers.encoder_layer_0.self_attention, encoder.layers.encoder_layer_0.self_attention.out_proj, "
        "encoder.layers.encoder_layer_1.mlp.0, encoder.layers.encoder_layer_1.mlp.3, "
        "encoder.layers.encoder_layer_1.self_attention, encoder.layers.encoder_layer_1.self_attention.out_proj, "
        "heads.head"
    )
    assert refusal(timm_vit(), layers=["blocks.0.attn.kqv"]).endswith(
        "\n  mend:  did you mean 'blocks.0.attn.qkv' or 'blocks.5.attn.qkv' or 'blocks.4.attn.qkv'?"
    )
    adapted = vit()
    attach(adapted)
    assert refusal(adapted) == (
        "the model has adapters already\n  where: [freeze]\n  mend:  merge them first: zoo.freeze.merge(model)"
    )


def test_a_tensor_of_two_layers_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert refusal(model) == (
        "0.weight belongs to another layer too, and cannot be adapted\n  where: [freeze]\n"
        "  mend:  name other layers in freeze.layers"
    )
    attach(model, layers=["1"])


def test_the_policy_without_adapters_is_refused() -> None:
    with pytest.raises(ZooError) as caught:
        build(LoraOptions())(layout_of(vit()), 0)
    assert str(caught.value) == (
        'the freeze policy "lora" trains adapters, and the model has none\n  where: [freeze]\n'
        "  mend:  attach them first: zoo.freeze.lora.build_adapter(options).attach(model, layout)"
    )


def test_around_a_loop_of_one_s_own() -> None:
    model = made(timm_vit)
    names = list(model.state_dict())
    plan = freeze.apply(model, "lora", rank=2)
    assert {name for name in plan.trained() if not name.endswith((".up", ".down"))} == {"head.weight", "head.bias"}
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    with freeze.audited(model):
        for _ in range(2):
            model(IMAGES).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    adapted = logits(model, False)
    freeze.merge(model)
    assert list(model.state_dict()) == names
    assert torch.equal(logits(model, False), adapted)


OPTIONS = LoraOptions(rank=2, rate=2.0)
LORA: dict[str, Any] = {"arch": "test_vit", "policy": build(OPTIONS), "adapter": build_adapter(OPTIONS)}
CONVOLUTIONS = LoraOptions(rank=2, convolutions=True)
RESNET: dict[str, Any] = {"policy": build(CONVOLUTIONS), "adapter": build_adapter(CONVOLUTIONS)}
BF16 = DeviceSettings(device="cpu", precision="bf16", channels_last=True)


def state_of(loop: Loop) -> dict[str, Tensor]:
    return {**loop.job.model.state_dict(), **{f"average.{k}": v for k, v in loop.evaluated.state_dict().items()}}


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(LORA, id="vit"),
        pytest.param({**LORA, "ema": 0.5, "dropout": 0.2, "drop_path": 0.1}, id="vit-average"),
        pytest.param({**LORA, "settings": BF16}, id="vit-bf16"),
        pytest.param({**LORA, "optim": OptimTable(use="sgd", lr=1e-2, weight_decay=0.0)}, id="vit-sgd"),
        pytest.param({**RESNET, "settings": BF16, "ema": 0.5}, id="resnet-bf16-average"),
    ],
)
def test_a_run_trains_adapters_alone_and_goes_on_to_the_same_bits(keys: dict[str, Any], tmp_path: Path) -> None:
    start = make_loop(tmp_path / "start", **keys).job.model.state_dict()
    whole = make_loop(tmp_path / "whole", **keys)
    whole.fit()
    report = whole.audit.report()
    assert report["held"]
    assert report["phases"][0]["trained"] == sum(name.endswith((".up", ".down")) for name in start) + 2
    own = {name for name, value in whole.job.model.state_dict().items() if not torch.equal(value, start[name])}
    trained = {name for name in start if name.endswith((".up", ".down")) or name.startswith("heads.")}
    # A fresh ResNet's residual branches end in norms at zero, and those are frozen: there is nothing to learn in them.
    silent = report["phases"][0]["silent"] if keys.get("arch") is None else []
    assert own <= trained <= {*own, *silent}
    assert any(name.endswith(".up") for name in own)
    part = make_loop(tmp_path / "part", **keys, checkpoint=CheckpointTable(every=2))
    part._epoch(0)
    part._settle()
    second = resumed(tmp_path / "part", **keys)
    second.fit()
    found, wanted = state_of(second), state_of(whole)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert second.audit.report()["phases"] == report["phases"]


def test_merging_what_was_trained_keeps_its_logits(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, ema=0.5, **LORA)
    loop.fit()
    for model in (loop.evaluated, loop.job.model):
        model.eval()
        adapted = model(IMAGES)["main"]
        merge(model)
        assert torch.equal(model(IMAGES)["main"], adapted)
    assert list(loop.job.model.state_dict()) == list(make_model(make_backbone("test_vit")).state_dict())


def test_batch_norms_whose_own_parameters_are_frozen_stay_fixed(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, **RESNET)
    plan = loop.job.phases[0].plan
    assert plan.fixed_norms
    assert not plan.tracked_norms
    assert "backbone.layer1" not in plan.still
