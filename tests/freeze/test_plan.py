"""The plan: what follows for batch norms and modes, and what a policy may not do."""

from typing import Literal

import pytest
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from tests.train.tiny import layout, make_backbone, make_model, stages
from zoo.errors import ZooError
from zoo.freeze.layout import make_layout
from zoo.freeze.names import under
from zoo.freeze.plan import Plan, Rules, make_phases, phase_at
from zoo.freeze.policies import head, none, zero_lr
from zoo.freeze.policies import stages as stages_policy
from zoo.freeze.thawing import gradual
from zoo.registry.builtin.freeze import GradualOptions, HeadOptions, StagesOptions, ZeroLrOptions
from zoo.registry.contracts import FreezePolicy
from zoo.registry.parts import NoOptions

BACKBONE = make_backbone()
MODEL = make_model(BACKBONE)
STAGES = stages(BACKBONE)
FROZEN = ["conv1", "bn1", "layer1"]
LAYOUT = layout(BACKBONE, MODEL)
FIRST: FreezePolicy = stages_policy(StagesOptions(frozen=FROZEN))


def plan_of(policy: FreezePolicy, rules: Rules = Rules()) -> Plan:  # noqa: B008
    return make_phases(MODEL, LAYOUT, policy, rules)[0].plan


def norms(module: nn.Module) -> frozenset[str]:
    return frozenset(name for name, child in module.named_modules() if isinstance(child, _BatchNorm))


def below_frozen(names: frozenset[str]) -> frozenset[str]:
    return frozenset(name for name in names if any(under(name, f"backbone.{prefix}") for prefix in FROZEN))


@pytest.mark.parametrize("policy", [FIRST, zero_lr(ZeroLrOptions(frozen=FROZEN))], ids=["stages", "zero-lr"])
@pytest.mark.parametrize("rule", ["fixed", "track", "auto"])
def test_which_batch_norms_are_fixed(rule: Literal["fixed", "track", "auto"], policy: FreezePolicy) -> None:
    plan = plan_of(policy, Rules(rule))
    expected = {"fixed": norms(MODEL), "track": frozenset(), "auto": below_frozen(norms(MODEL))}[rule]
    assert plan.fixed_norms == expected


def test_nothing_is_fixed_when_everything_trains() -> None:
    plan = plan_of(none(NoOptions()))
    assert (plan.fixed_norms, plan.still) == (frozenset(), frozenset())
    assert plan.trained() == {name for name, _ in MODEL.named_parameters()}


def test_frozen_stages_stay_still() -> None:
    still = {stage for stage in STAGES if stage.removeprefix("backbone.") in FROZEN}
    assert plan_of(FIRST).still == still
    assert plan_of(FIRST, Rules("fixed")).still == still
    assert plan_of(FIRST, Rules("track")).still == still
    assert plan_of(FIRST, Rules(mode="train")).still == frozenset()
    assert plan_of(FIRST, Rules(mode="eval")).still == {*STAGES, "backbone"}


def test_a_stage_that_trains_in_part_is_not_still() -> None:
    policy = stages_policy(StagesOptions(frozen=["layer1.0.conv1"]))
    assert plan_of(policy).still == frozenset()


def test_a_stage_that_is_a_bare_parameter_has_no_mode() -> None:
    backbone = make_backbone("test_vit")
    model = make_model(backbone)
    policy = stages_policy(StagesOptions(frozen=["cls_token", "patch_embed"]))
    plan = make_phases(model, layout(backbone, model), policy)[0].plan
    assert plan.still == {"backbone.patch_embed"}


def test_what_trains() -> None:
    plan = plan_of(zero_lr(ZeroLrOptions()))
    assert plan.trained() == {"heads.main.linear.weight", "heads.main.linear.bias"}


def test_a_policy_that_leaves_parameters_out() -> None:
    with pytest.raises(ZooError) as caught:
        plan_of(lambda layout, epoch: dict.fromkeys(layout.parameters[:-1], 1.0))
    assert str(caught.value) == (
        "the freeze policy leaves out heads.main.linear.bias\n"
        "  where: [freeze]\n  mend:  a policy covers every parameter"
    )


def test_a_policy_that_leaves_many_out_names_five() -> None:
    names = [name for name, _ in MODEL.named_parameters()]
    with pytest.raises(ZooError) as caught:
        plan_of(lambda layout, epoch: {})
    assert str(caught.value) == (
        f"the freeze policy leaves out {', '.join(names[:5])} and {len(names) - 5} more\n"
        "  where: [freeze]\n  mend:  a policy covers every parameter"
    )


def test_a_policy_that_adds_a_name() -> None:
    with pytest.raises(ZooError) as caught:
        plan_of(lambda layout, epoch: dict.fromkeys([*layout.parameters, "x"], 1.0))
    assert str(caught.value) == (
        "the freeze policy names what is not a parameter: x\n"
        "  where: [freeze]\n  mend:  a policy covers every parameter"
    )


@pytest.mark.parametrize("rate", [None, 0.0])
def test_a_policy_that_lets_nothing_train(rate: float | None) -> None:
    with pytest.raises(ZooError) as caught:
        plan_of(lambda layout, epoch: dict.fromkeys(layout.parameters, rate))
    assert str(caught.value) == (
        "the freeze policy lets nothing train\n  where: [freeze]\n  mend:  freeze less, or use `zoo evaluate`"
    )


def test_a_frozen_head_is_still() -> None:
    model = make_model(BACKBONE, heads=("main", "second"))
    plan = make_phases(model, layout(BACKBONE, model), head(HeadOptions(train=["second"])))[0].plan
    assert plan.still == {*STAGES, "backbone", "heads.main"}


def test_norms_that_drift_are_those_that_are_tracked_where_nothing_trains() -> None:
    assert plan_of(FIRST, Rules("track")).drifting() == below_frozen(norms(MODEL))
    assert plan_of(FIRST).drifting() == frozenset()


def test_what_is_frozen_includes_statistics() -> None:
    frozen = plan_of(FIRST).frozen(MODEL)
    assert "backbone.bn1.running_mean" in frozen
    assert "backbone.conv1.0.weight" in frozen
    assert not any(name.startswith(("backbone.layer4", "heads")) for name in frozen)
    assert not any("running" in name for name in plan_of(FIRST, Rules("track")).frozen(MODEL))


class _Frozen(nn.Sequential):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = FrozenBatchNorm2d(4)
        self.fc = nn.Linear(4, 2)


def test_frozen_batch_norms_of_torchvision_are_fixed_and_cannot_track() -> None:
    module = _Frozen()
    found = make_layout(module, ["conv", "norm"], ["fc"])
    assert make_phases(module, found, none(NoOptions()))[0].plan.fixed_norms == {"norm"}
    with pytest.raises(ZooError) as caught:
        make_phases(module, found, none(NoOptions()), Rules("track"))
    assert str(caught.value) == (
        "norm is a FrozenBatchNorm2d, which has fixed statistics\n"
        '  where: freeze.bn\n  mend:  use bn = "auto" or "fixed"'
    )


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4), BatchNormAct2d(4)],
    ids=lambda norm: type(norm).__name__,
)
def test_every_kind_of_batch_norm_is_found(norm: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 2))
    found = make_layout(module, ["0", "1"], ["2"])
    plan = make_phases(module, found, head(HeadOptions()))[0].plan
    assert plan.fixed_norms == {"1"}
    assert found.norms == {"1.weight", "1.bias"}


def test_a_tensor_with_two_names_and_two_rates_is_refused() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    found = make_layout(module, ["0"], ["1"])
    with pytest.raises(ZooError) as caught:
        make_phases(module, found, head(HeadOptions()))
    assert str(caught.value) == (
        "0.weight and 1.weight are one parameter, and the freeze policy gives it two rates\n"
        "  where: [freeze]\n  mend:  freeze both of them or neither"
    )


def test_what_lies_in_no_stage_is_refused() -> None:
    with pytest.raises(ZooError) as caught:
        make_layout(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), ["0"], [])
    assert str(caught.value) == (
        "1.weight lies in no stage and no head\n  mend:  name stages that cover the whole backbone"
    )


# Weight decay.


def test_what_is_decayed_and_what_a_recipe_excludes() -> None:
    plan = plan_of(FIRST)
    weights = {name for name, p in MODEL.named_parameters() if p.dim() > 1 and plan.rates[name]}
    assert plan.decayed == weights
    assert plan_of(FIRST, Rules(no_decay=("heads.*", "layer4.*"))).decayed == {
        name for name in weights if not name.startswith(("heads.", "backbone.layer4."))
    }


def test_an_exclusion_that_matches_nothing() -> None:
    with pytest.raises(ZooError) as caught:
        plan_of(FIRST, Rules(no_decay=("heads.man.*",)))
    assert str(caught.value).startswith(
        "optim.no_decay has 'heads.man.*', which matches no parameter\n  where: [optim]"
    )


# Phases.


def test_phases_cover_the_run_and_a_phase_is_a_function_of_the_epoch() -> None:
    found = layout(BACKBONE, MODEL, epochs=6)
    phases = make_phases(MODEL, found, gradual(GradualOptions(thaw={"layer4": 1, "layer3": 4})))
    assert [(phase.first, phase.end) for phase in phases] == [(0, 1), (1, 4), (4, 6)]
    assert [phases.index(phase_at(phases, epoch)) for epoch in range(7)] == [0, 1, 1, 1, 2, 2, 2]
