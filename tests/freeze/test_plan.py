"""The plan: what follows for batch norms and modes, and what a policy may not do."""

from typing import Literal

import pytest
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.train.tiny import make_backbone, make_model, stages
from zoo.errors import ZooError
from zoo.freeze import make_plan
from zoo.freeze.policies import none, under, zero_lr
from zoo.freeze.policies import stages as stages_policy
from zoo.registry.builtin.freeze import StagesOptions, ZeroLrOptions
from zoo.registry.contracts import FreezePolicy
from zoo.registry.parts import NoOptions

BACKBONE = make_backbone()
MODEL = make_model(BACKBONE)
STAGES = stages(BACKBONE)
FROZEN = ["conv1", "bn1", "layer1"]
FIRST: FreezePolicy = stages_policy(StagesOptions(frozen=FROZEN))


def norms(module: nn.Module) -> frozenset[str]:
    return frozenset(name for name, child in module.named_modules() if isinstance(child, _BatchNorm))


def below_frozen(names: frozenset[str]) -> frozenset[str]:
    return frozenset(name for name in names if any(under(name, f"backbone.{prefix}") for prefix in FROZEN))


@pytest.mark.parametrize("policy", [FIRST, zero_lr(ZeroLrOptions(frozen=FROZEN))], ids=["stages", "zero-lr"])
@pytest.mark.parametrize("rule", ["fixed", "track", "auto"])
def test_which_batch_norms_are_fixed(rule: Literal["fixed", "track", "auto"], policy: FreezePolicy) -> None:
    plan = make_plan(MODEL, STAGES, policy, rule, epoch=0)
    expected = {"fixed": norms(MODEL), "track": frozenset(), "auto": below_frozen(norms(MODEL))}[rule]
    assert plan.fixed_norms == expected


def test_nothing_is_fixed_when_everything_trains() -> None:
    plan = make_plan(MODEL, STAGES, none(NoOptions()), "auto", epoch=0)
    assert (plan.fixed_norms, plan.still) == (frozenset(), frozenset())
    assert plan.trained() == {name for name, _ in MODEL.named_parameters()}


def test_frozen_stages_stay_still_unless_statistics_are_tracked() -> None:
    still = {stage for stage in STAGES if stage.removeprefix("backbone.") in FROZEN}
    assert make_plan(MODEL, STAGES, FIRST, "auto", epoch=0).still == still
    assert make_plan(MODEL, STAGES, FIRST, "fixed", epoch=0).still == still
    assert make_plan(MODEL, STAGES, FIRST, "track", epoch=0).still == frozenset()


def test_a_stage_that_trains_in_part_is_not_still() -> None:
    policy = stages_policy(StagesOptions(frozen=["layer1.0.conv1"]))
    assert make_plan(MODEL, STAGES, policy, "auto", epoch=0).still == frozenset()


def test_a_stage_that_is_a_bare_parameter_has_no_mode() -> None:
    backbone = make_backbone("test_vit")
    policy = stages_policy(StagesOptions(frozen=["cls_token", "patch_embed"]))
    plan = make_plan(make_model(backbone), stages(backbone), policy, "auto", epoch=0)
    assert plan.still == {"backbone.patch_embed"}


def test_what_trains() -> None:
    plan = make_plan(MODEL, STAGES, zero_lr(ZeroLrOptions()), "auto", epoch=0)
    assert plan.trained() == {"heads.main.linear.weight", "heads.main.linear.bias"}


def test_a_policy_that_leaves_parameters_out() -> None:
    with pytest.raises(ZooError) as caught:
        make_plan(MODEL, STAGES, lambda names, stages, epoch: dict.fromkeys(names[:-1], 1.0), "auto", epoch=0)
    assert str(caught.value) == (
        "the freeze policy leaves out heads.main.linear.bias\n"
        "  where: [freeze]\n  mend:  a policy covers every parameter"
    )


def test_a_policy_that_leaves_many_out_names_five() -> None:
    names = [name for name, _ in MODEL.named_parameters()]
    with pytest.raises(ZooError) as caught:
        make_plan(MODEL, STAGES, lambda names, stages, epoch: {}, "auto", epoch=0)
    assert str(caught.value) == (
        f"the freeze policy leaves out {', '.join(names[:5])} and {len(names) - 5} more\n"
        "  where: [freeze]\n  mend:  a policy covers every parameter"
    )


def test_a_policy_that_adds_a_name() -> None:
    with pytest.raises(ZooError) as caught:
        make_plan(MODEL, STAGES, lambda names, stages, epoch: dict.fromkeys([*names, "x"], 1.0), "auto", epoch=0)
    assert str(caught.value) == (
        "the freeze policy names what is not a parameter: x\n"
        "  where: [freeze]\n  mend:  a policy covers every parameter"
    )


@pytest.mark.parametrize("rate", [None, 0.0])
def test_a_policy_that_lets_nothing_train(rate: float | None) -> None:
    with pytest.raises(ZooError) as caught:
        make_plan(MODEL, STAGES, lambda names, stages, epoch: dict.fromkeys(names, rate), "auto", epoch=0)
    assert str(caught.value) == (
        "the freeze policy lets nothing train\n  where: [freeze]\n  mend:  freeze less, or use `zoo evaluate`"
    )
