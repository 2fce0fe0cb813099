"""The rate of every parameter of five networks under every policy, against what each policy's source says.

What is expected is written down here a second time, by regular expressions on names; for layer-decay timm itself is
asked, on its own model.
"""

import re
from functools import cache

import pytest
import timm
from timm.optim import param_groups_layer_decay

from zoo.backbones.timm import build as build_timm
from zoo.backbones.torchvision import build as build_torchvision
from zoo.freeze import policies, thawing
from zoo.freeze.layout import make_layout
from zoo.heads.linear import LinearHead
from zoo.meta import on_meta
from zoo.registry.builtin import freeze as options
from zoo.registry.builtin.backbones import TimmOptions, TorchvisionOptions
from zoo.registry.contracts import Layout, Rates
from zoo.registry.parts import NoOptions
from zoo.train.model import Model

NETWORKS = ("resnet50", "mobilenetv3_large_100", "convnext_tiny", "vit_tiny_patch16_224", "torchvision/resnet18")
STEM = {
    "resnet50": ["conv1", "bn1"],
    "mobilenetv3_large_100": ["conv_stem", "bn1"],
    "convnext_tiny": ["stem"],
    "vit_tiny_patch16_224": ["cls_token", "pos_embed", "patch_embed"],
    "torchvision/resnet18": ["conv1", "bn1"],
}
LAST = {
    "resnet50": "layer4",
    "mobilenetv3_large_100": "blocks.6",
    "convnext_tiny": "stages.3",
    "vit_tiny_patch16_224": "blocks.11",
    "torchvision/resnet18": "layer4",
}
CLASSIFIER = {
    "resnet50": "fc",
    "mobilenetv3_large_100": "classifier",
    "convnext_tiny": "head.fc",
    "vit_tiny_patch16_224": "head",
}
NORMS = {
    "resnet50": r"(^|\.)bn\d\.|downsample\.1\.",
    "mobilenetv3_large_100": r"(^|\.)bn\d\.",
    "convnext_tiny": r"stem\.1\.|\.norm\.|downsample\.0\.|head\.norm",
    "vit_tiny_patch16_224": r"norm\d?\.",
    "torchvision/resnet18": r"(^|\.)bn\d\.|downsample\.1\.",
}


@cache
def layout(network: str) -> Layout:
    library, _, arch = network.rpartition("/")
    with on_meta():
        if library:
            backbone = build_torchvision(TorchvisionOptions(arch=arch), None)
        else:
            backbone = build_timm(TimmOptions(arch=arch), None)
        model = Model(backbone, {"main": LinearHead(backbone.spec, 5, 0.0)}, {"main": 1.0})
    stages = [f"backbone.{stage}" for stage in backbone.stages]
    return make_layout(model, stages, ["heads.main"], depths=backbone.depths, root="backbone.", epochs=20)


def under(name: str, *prefixes: str) -> bool:
    return any(re.match(rf"backbone\.{re.escape(prefix)}(\.|$)", name) for prefix in prefixes)


def is_head(name: str) -> bool:
    return name.startswith("heads.")


def expect(network: str, rates: Rates, expected: Rates) -> None:
    assert list(rates) == list(layout(network).parameters)
    assert rates == expected
    assert len(rates) > 50


@pytest.mark.parametrize("network", NETWORKS)
class TestRates:
    def test_none(self, network: str) -> None:
        rates = policies.none(NoOptions())(layout(network), 0)
        expect(network, rates, dict.fromkeys(layout(network).parameters, 1.0))

    def test_head(self, network: str) -> None:
        rates = policies.head(options.HeadOptions())(layout(network), 0)
        expect(network, rates, {n: 1.0 if is_head(n) else None for n in layout(network).parameters})

    def test_stages(self, network: str) -> None:
        stem = STEM[network]
        rates = policies.stages(options.StagesOptions(frozen=stem))(layout(network), 0)
        expect(network, rates, {n: None if under(n, *stem) else 1.0 for n in layout(network).parameters})
        assert {n for n, rate in rates.items() if rate is None}

    def test_zero_lr(self, network: str) -> None:
        stem = STEM[network]
        rates = policies.zero_lr(options.ZeroLrOptions(frozen=stem))(layout(network), 0)
        expect(network, rates, {n: 0.0 if under(n, *stem) else 1.0 for n in layout(network).parameters})

    def test_patterns(self, network: str) -> None:
        rules = [(f"{LAST[network]}.*", 0.1), ("heads.*", 1.0), ("*", "frozen")]
        rates = policies.patterns(options.PatternsOptions(rules=rules))(layout(network), 0)
        expected = {n: 0.1 if under(n, LAST[network]) else 1.0 if is_head(n) else None for n in rates}
        expect(network, rates, expected)

    def test_discriminative(self, network: str) -> None:
        given = options.DiscriminativeOptions(rates={LAST[network]: 0.4}, rest=0.16)
        rates = policies.discriminative(given)(layout(network), 0)
        expected = {n: 0.4 if under(n, LAST[network]) else 1.0 if is_head(n) else 0.16 for n in rates}
        expect(network, rates, expected)

    def test_bitfit(self, network: str) -> None:
        rates = policies.bitfit(NoOptions())(layout(network), 0)
        expect(network, rates, {n: 1.0 if is_head(n) or n.endswith(".bias") else None for n in rates})

    def test_norm_only(self, network: str) -> None:
        rates = policies.norm_only(NoOptions())(layout(network), 0)
        norm = re.compile(NORMS[network])
        expect(
            network, rates, {n: 1.0 if is_head(n) or norm.search(n.removeprefix("backbone.")) else None for n in rates}
        )

    def test_two_phase(self, network: str) -> None:
        policy = thawing.two_phase(options.TwoPhaseOptions(head_epochs=3, rate=0.1))
        expect(
            network, policy(layout(network), 2), {n: 1.0 if is_head(n) else None for n in layout(network).parameters}
        )
        expect(network, policy(layout(network), 3), {n: 1.0 if is_head(n) else 0.1 for n in layout(network).parameters})

    def test_gradual(self, network: str) -> None:
        """ULMFiT: a stage's rate is that of the one above it over 2.6; one more thaws every epoch, the last first."""
        policy = thawing.gradual(options.GradualOptions(decay=1 / 2.6))
        found, epoch = layout(network), 4
        places = {stage: place for place, stage in enumerate(reversed(found.stages), 1)}
        stage_of = {
            n: next((s for s in found.stages if n == s or n.startswith(f"{s}.")), None) for n in found.parameters
        }

        def expected(name: str) -> float | None:
            stage = stage_of[name]
            if stage is None:
                return 1.0
            return (1 / 2.6) ** places[stage] if places[stage] <= epoch else None

        expect(network, policy(found, epoch), {n: expected(n) for n in found.parameters})


@pytest.mark.parametrize("network", NETWORKS[:4])
def test_layer_decay_is_timm_s(network: str) -> None:
    with on_meta():
        native = timm.create_model(network, num_classes=5)
    names = {id(parameter): name for name, parameter in native.named_parameters()}
    groups = param_groups_layer_decay(native, weight_decay=0.05, layer_decay=0.7)
    expected = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    rates = policies.layer_decay(options.LayerDecayOptions(decay=0.7))(layout(network), 0)
    ours = {name.removeprefix("backbone."): rate for name, rate in rates.items() if not is_head(name)}
    assert set(expected) - set(ours) == {f"{CLASSIFIER[network]}.weight", f"{CLASSIFIER[network]}.bias"}
    assert ours == pytest.approx({name: expected[name] for name in ours})
    assert {rates["heads.main.linear.weight"], rates["heads.main.linear.bias"]} == {1.0}


def test_layer_decay_of_torchvision_s_resnet() -> None:
    """By hand: the stem, then eight blocks, then the head."""
    rates = policies.layer_decay(options.LayerDecayOptions(decay=0.5))(layout("torchvision/resnet18"), 0)
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]

    def depth(name: str) -> int:
        if is_head(name):
            return 9
        return next((place for place, block in enumerate(blocks, 1) if under(name, block)), 0)

    assert rates == {name: 0.5 ** (9 - depth(name)) for name in rates}
