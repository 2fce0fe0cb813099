"""Policies: the rate of every name."""

import pytest
from pydantic import ValidationError

from tests.train.tiny import layout, make_backbone, make_model
from zoo.errors import ZooError
from zoo.freeze import policies
from zoo.registry.builtin.freeze import (
    DiscriminativeOptions,
    HeadOptions,
    LayerDecayOptions,
    PatternsOptions,
    StagesOptions,
    ZeroLrOptions,
)
from zoo.registry.contracts import Layout
from zoo.registry.parts import NoOptions

BACKBONE = make_backbone()
LAYOUT = layout(BACKBONE, make_model(BACKBONE))
NAMES = LAYOUT.parameters


def test_none_trains_everything() -> None:
    assert policies.none(NoOptions())(LAYOUT, 0) == dict.fromkeys(NAMES, 1.0)


def test_head_trains_the_heads_only() -> None:
    rates = policies.head(HeadOptions())(LAYOUT, 0)
    assert rates == {name: None if name.startswith("backbone.") else 1.0 for name in NAMES}


def test_head_trains_the_heads_that_are_named() -> None:
    both = layout(BACKBONE, make_model(BACKBONE, heads=("main", "second")))
    rates = policies.head(HeadOptions(train=["second"]))(both, 0)
    assert rates == {name: 1.0 if name.startswith("heads.second.") else None for name in both.parameters}
    assert 1.0 in rates.values()


def test_head_of_no_such_name() -> None:
    with pytest.raises(ZooError) as caught:
        policies.head(HeadOptions(train=["man"]))(LAYOUT, 0)
    assert str(caught.value) == (
        "freeze.train names 'man', and no head is called so\n  where: [freeze]\n  mend:  did you mean 'main'?"
    )


def test_stages_take_out_what_lies_under_them() -> None:
    rates = policies.stages(StagesOptions(frozen=["conv1", "layer1", "layer2.0.conv1"]))(LAYOUT, 0)
    frozen = ("backbone.conv1.", "backbone.layer1.", "backbone.layer2.0.conv1.")
    assert rates == {name: None if name.startswith(frozen) else 1.0 for name in NAMES}
    assert None in rates.values()


def test_zero_lr_keeps_them_in_at_rate_zero() -> None:
    rates = policies.zero_lr(ZeroLrOptions(frozen=["layer1"]))(LAYOUT, 0)
    assert rates == {name: 0.0 if name.startswith("backbone.layer1.") else 1.0 for name in NAMES}


def test_zero_lr_of_nothing_named_is_the_whole_backbone() -> None:
    rates = policies.zero_lr(ZeroLrOptions())(LAYOUT, 0)
    assert rates == {name: 0.0 if name.startswith("backbone.") else 1.0 for name in NAMES}


def test_a_prefix_ends_at_a_dot() -> None:
    names = ["backbone.layer1.weight", "backbone.layer10.weight", "backbone.layer1"]
    rates = policies.stages(StagesOptions(frozen=["layer1"]))(Layout(tuple(names), (), root="backbone."), 0)
    assert rates == {"backbone.layer1.weight": None, "backbone.layer10.weight": 1.0, "backbone.layer1": None}


def test_policies_are_the_same_in_every_epoch() -> None:
    policy = policies.stages(StagesOptions(frozen=["layer1"]))
    assert policy(LAYOUT, 0) == policy(LAYOUT, 7)


def test_a_prefix_that_matches_nothing() -> None:
    with pytest.raises(ZooError) as caught:
        policies.stages(StagesOptions(frozen=["layer1", "layer9"]))(LAYOUT, 0)
    assert str(caught.value) == (
        "freeze.frozen names 'layer9', and no parameter of the backbone lies under it\n"
        "  where: [freeze]\n  mend:  did you mean 'layer4' or 'layer3' or 'layer2'?"
    )


def test_patterns_take_the_first_match() -> None:
    rules = [("layer4.*.bias", 0.5), ("layer4.*", 0.1), ("layer3.*", 0), ("heads.*", 1.0), ("*", "frozen")]
    rates = policies.patterns(PatternsOptions(rules=rules))(LAYOUT, 0)

    def expected(name: str) -> float | None:
        if name.startswith("backbone.layer4."):
            return 0.5 if name.endswith(".bias") else 0.1
        return 0.0 if name.startswith("backbone.layer3.") else 1.0 if name.startswith("heads.") else None

    assert rates == {name: expected(name) for name in NAMES}
    assert set(rates.values()) == {0.5, 0.1, 0.0, 1.0, None}


def _refusal(rules: list[tuple[str, float | str]]) -> str:
    with pytest.raises(ZooError) as caught:
        policies.patterns(PatternsOptions.model_validate({"rules": rules}))(LAYOUT, 0)
    return str(caught.value)


def test_patterns_cover_every_parameter() -> None:
    assert _refusal([("conv1.*", 1.0), ("bn1.*", 1.0), ("layer*", "frozen")]) == (
        "no rule of freeze.rules matches heads.main.linear.weight, heads.main.linear.bias\n"
        '  where: [freeze]\n  mend:  let the last rule be ["*", "frozen"] or ["*", 1.0]'
    )


def test_a_pattern_of_nothing_names_the_nearest() -> None:
    assert _refusal([("bn1.wieght", "frozen"), ("*", 1.0)]) == (
        "freeze.rules has 'bn1.wieght', which matches no parameter\n"
        "  where: [freeze]\n  mend:  did you mean 'bn1.weight' or 'conv1.6.weight' or 'conv1.4.weight'?"
    )


def test_a_pattern_that_earlier_ones_leave_nothing_is_refused() -> None:
    assert _refusal([("*", 1.0), ("layer1.*", "frozen")]) == (
        "freeze.rules has 'layer1.*' after rules that match all that it does\n"
        "  where: [freeze]\n  mend:  put the narrower rule first; the first match wins"
    )


def test_discriminative_gives_each_stage_its_rate_and_the_longer_prefix_wins() -> None:
    options = DiscriminativeOptions(rates={"layer4": 0.5, "layer4.0": 0.25, "layer1": "frozen"}, rest=0.125)
    rates = policies.discriminative(options)(LAYOUT, 0)

    def expected(name: str) -> float | None:
        prefixes = {"backbone.layer4.0.": 0.25, "backbone.layer4.": 0.5, "backbone.layer1.": None, "heads.": 1.0}
        return next((rate for prefix, rate in prefixes.items() if name.startswith(prefix)), 0.125)

    assert rates == {name: expected(name) for name in NAMES}


def test_discriminative_names_the_nearest_stage() -> None:
    with pytest.raises(ZooError) as caught:
        policies.discriminative(DiscriminativeOptions(rates={"layr4": 0.5}))(LAYOUT, 0)
    assert str(caught.value).startswith(
        "freeze.rates names 'layr4', and no parameter of the backbone lies under it\n"
        "  where: [freeze]\n  mend:  did you mean 'layer4'"
    )


def test_bitfit_trains_biases_and_heads() -> None:
    rates = policies.bitfit(NoOptions())(LAYOUT, 0)
    trained = {name for name in NAMES if name.endswith(".bias") or name.startswith("heads.")}
    assert rates == {name: 1.0 if name in trained else None for name in NAMES}
    assert any(name.startswith("backbone.") for name in trained)


@pytest.mark.parametrize("rate", [-0.1, "frosen", float("nan"), float("inf")])
def test_a_rate_is_a_number_or_frozen(rate: float | str) -> None:
    with pytest.raises(ValidationError):
        PatternsOptions.model_validate({"rules": [("*", rate)]})


def test_norm_only_trains_norms_and_heads() -> None:
    rates = policies.norm_only(NoOptions())(LAYOUT, 0)
    # The test network's convolutions have no bias: what has one dimension is a norm's.
    norms = {name for name, parameter in make_model(BACKBONE).named_parameters() if parameter.dim() == 1}
    assert rates == {name: 1.0 if name in norms or name.startswith("heads.") else None for name in NAMES}


def test_norm_only_needs_a_norm() -> None:
    bare = Layout(("backbone.a.weight", "heads.main.weight"), ("backbone.a",), ("heads.main",), root="backbone.")
    with pytest.raises(ZooError) as caught:
        policies.norm_only(NoOptions())(bare, 0)
    assert str(caught.value) == (
        "the backbone has no normalisation layer with parameters\n"
        '  where: [freeze] use\n  mend:  use "bitfit", "head" or "stages"'
    )


def test_layer_decay_falls_by_depth_and_has_a_floor() -> None:
    depths = {"backbone.a.weight": 0, "backbone.b.weight": 1, "heads.main.weight": 3}
    found = Layout(tuple(depths), ("backbone.a", "backbone.b"), ("heads.main",), depths=depths, root="backbone.")
    rates = policies.layer_decay(LayerDecayOptions(decay=0.5))(found, 0)
    assert rates == {"backbone.a.weight": 0.125, "backbone.b.weight": 0.25, "heads.main.weight": 1.0}
    rates = policies.layer_decay(LayerDecayOptions(decay=0.5, min_scale=0.2))(found, 0)
    assert rates == {"backbone.a.weight": 0.2, "backbone.b.weight": 0.25, "heads.main.weight": 1.0}
