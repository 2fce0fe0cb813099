"""Policies: the rate of every name."""

import pytest

from tests.train.tiny import make_backbone, make_model, stages
from zoo.errors import ZooError
from zoo.freeze import policies
from zoo.registry.builtin.freeze import StagesOptions, ZeroLrOptions
from zoo.registry.parts import NoOptions

BACKBONE = make_backbone()
STAGES = stages(BACKBONE)
NAMES = [name for name, _ in make_model(BACKBONE).named_parameters()]


def test_none_trains_everything() -> None:
    assert policies.none(NoOptions())(NAMES, STAGES, 0) == dict.fromkeys(NAMES, 1.0)


def test_head_trains_the_heads_only() -> None:
    rates = policies.head(NoOptions())(NAMES, STAGES, 0)
    assert rates == {name: None if name.startswith("backbone.") else 1.0 for name in NAMES}


def test_stages_take_out_what_lies_under_them() -> None:
    rates = policies.stages(StagesOptions(frozen=["conv1", "layer1", "layer2.0.conv1"]))(NAMES, STAGES, 0)
    frozen = ("backbone.conv1.", "backbone.layer1.", "backbone.layer2.0.conv1.")
    assert rates == {name: None if name.startswith(frozen) else 1.0 for name in NAMES}
    assert None in rates.values()


def test_zero_lr_keeps_them_in_at_rate_zero() -> None:
    rates = policies.zero_lr(ZeroLrOptions(frozen=["layer1"]))(NAMES, STAGES, 0)
    assert rates == {name: 0.0 if name.startswith("backbone.layer1.") else 1.0 for name in NAMES}


def test_zero_lr_of_nothing_named_is_the_whole_backbone() -> None:
    rates = policies.zero_lr(ZeroLrOptions())(NAMES, STAGES, 0)
    assert rates == {name: 0.0 if name.startswith("backbone.") else 1.0 for name in NAMES}


def test_a_prefix_ends_at_a_dot() -> None:
    names = ["backbone.layer1.weight", "backbone.layer10.weight", "backbone.layer1"]
    rates = policies.stages(StagesOptions(frozen=["layer1"]))(names, [], 0)
    assert rates == {"backbone.layer1.weight": None, "backbone.layer10.weight": 1.0, "backbone.layer1": None}


def test_policies_are_the_same_in_every_epoch() -> None:
    policy = policies.stages(StagesOptions(frozen=["layer1"]))
    assert policy(NAMES, STAGES, 0) == policy(NAMES, STAGES, 7)


def test_a_prefix_that_matches_nothing() -> None:
    with pytest.raises(ZooError) as caught:
        policies.stages(StagesOptions(frozen=["layer1", "layer9"]))(NAMES, STAGES, 0)
    assert str(caught.value) == (
        "freeze.frozen names 'layer9', and no parameter of the backbone lies under it\n"
        "  where: [freeze]\n  mend:  did you mean 'layer4' or 'layer3' or 'layer2'?"
    )
