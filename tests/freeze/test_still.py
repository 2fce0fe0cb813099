"""What is frozen stays bit for bit, whatever calls `train()`."""

from copy import deepcopy
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from tests.train.tiny import layout, make_backbone, make_model
from zoo.freeze.names import under
from zoo.freeze.plan import Phase, Plan, Rules, make_phases
from zoo.freeze.policies import head, none, zero_lr
from zoo.freeze.policies import stages as stages_policy
from zoo.freeze.still import fix_batchnorm, follow, hold_eval, release, unfix_batchnorm
from zoo.recipe.schema import OptimTable
from zoo.registry.builtin.freeze import HeadOptions, StagesOptions, ZeroLrOptions
from zoo.registry.contracts import FreezePolicy
from zoo.registry.parts import NoOptions
from zoo.train.model import Model
from zoo.train.optim import make_optimizer, set_rate

FROZEN = ["conv1", "bn1", "layer1"]
FIRST = stages_policy(StagesOptions(frozen=FROZEN))
Rule = Literal["fixed", "track", "auto"]


def make(policy: FreezePolicy = FIRST, rule: Rule = "auto") -> tuple[Model, Plan]:
    backbone = make_backbone()
    model = make_model(backbone, dropout=0.5)
    plan = make_phases(model, layout(backbone, model), policy, Rules(rule))[0].plan
    follow(model, plan)
    return model, plan


def train(model: Model, plan: Plan, table: OptimTable | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Take four steps, asking for training mode at every level before each; return the state before and after."""
    optimizer = make_optimizer(table or OptimTable(weight_decay=0.1), model, (Phase(0, 1, plan),))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(4):
        for module in model.modules():
            module.train()
        model.train()
        set_rate(optimizer, 1e-2)
        model(images)["main"].square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return before, model.state_dict()


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def is_frozen(name: str) -> bool:
    return any(under(name, f"backbone.{prefix}") for prefix in FROZEN)


def is_statistic(name: str) -> bool:
    return name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")


def test_frozen_weights_and_statistics_stay_and_all_others_move() -> None:
    before, after = train(*make())
    assert moved(before, after) == {name for name in before if not is_frozen(name)}


def test_fixed_statistics_stay_everywhere() -> None:
    before, after = train(*make(rule="fixed"))
    assert moved(before, after) == {name for name in before if not is_frozen(name) and not is_statistic(name)}


def test_tracked_statistics_move_in_frozen_stages_too() -> None:
    before, after = train(*make(rule="track"))
    assert moved(before, after) == {name for name in before if not is_frozen(name) or is_statistic(name)}


def test_the_head_alone_moves() -> None:
    before, after = train(*make(head(HeadOptions())))
    assert moved(before, after) == {"heads.main.linear.weight", "heads.main.linear.bias"}


def test_requires_grad_follows_the_rates() -> None:
    model, plan = make()
    assert {name: p.requires_grad for name, p in model.named_parameters()} == {
        name: rate is not None for name, rate in plan.rates.items()
    }


@pytest.mark.parametrize(
    "table",
    [OptimTable(weight_decay=0.1), OptimTable(use="sgd", momentum=0.9, weight_decay=0.1)],
    ids=["adamw", "sgd"],
)
def test_at_rate_zero_there_are_gradients_and_nothing_moves(table: OptimTable) -> None:
    model, plan = make(zero_lr(ZeroLrOptions(frozen=FROZEN)))
    before, after = train(model, plan, table)
    assert moved(before, after) == {name for name in before if not is_frozen(name)}
    model(torch.randn(2, 3, 32, 32))["main"].square().sum().backward()
    frozen = [parameter.grad for name, parameter in model.named_parameters() if is_frozen(name)]
    assert all(gradient is not None for gradient in frozen)
    assert any(gradient.any() for gradient in frozen if gradient is not None)


@pytest.mark.parametrize("path", ["backbone", "backbone.layer1", "backbone.layer1.0", "backbone.layer1.0.bn1"])
def test_train_on_a_part_leaves_what_is_still_in_eval_mode(path: str) -> None:
    model, _ = make()
    model.get_submodule(path).train()
    assert not any(module.training for module in model.get_submodule("backbone.layer1").modules())


def test_all_else_follows_train_and_eval() -> None:
    model, _ = make()
    model.train()
    assert model.training
    assert model.get_submodule("backbone.layer4.0.bn1").training
    assert model.get_submodule("heads.main.dropout").training
    model.eval()
    assert not any(module.training for module in model.modules())


def test_a_deep_copy_is_held_by_itself() -> None:
    model, _ = make()
    copied = deepcopy(model)
    copied.train()
    assert not copied.get_submodule("backbone.layer1.0.bn1").training
    assert copied.get_submodule("backbone.layer2.0.bn1").training


def test_holding_leaves_names_and_class_alone() -> None:
    model, plain = make()[0], make_model()
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [type(module) for module in model.modules()] == [type(module) for module in plain.modules()]


def test_release() -> None:
    model, _ = make()
    layer = model.get_submodule("backbone.layer1")
    for module in layer.modules():
        release(module)
    layer.train()
    assert all(module.training for module in layer.modules())
    hold_eval(layer)
    layer.train()
    assert not any(module.training for module in layer.modules())


def test_a_later_plan_lets_go_what_an_earlier_one_held() -> None:
    backbone = make_backbone()
    model = make_model(backbone).train()
    for policy in (FIRST, none(NoOptions())):
        follow(model, make_phases(model, layout(backbone, model), policy)[0].plan)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_tracked_norm_in_a_still_stage_trains_alone() -> None:
    model, plan = make(rule="track")
    model.train()
    held = model.get_submodule("backbone.layer1")
    assert {name for name, module in held.named_modules() if module.training} == {
        name.removeprefix("backbone.layer1.") for name in plan.tracked_norms if name.startswith("backbone.layer1.")
    }
    model.eval()
    assert not any(module.training for module in model.modules())


def test_fix_batchnorm_and_back() -> None:
    model = make_model().train()
    fix_batchnorm(model)
    model.train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert model.get_submodule("backbone.layer1").training
    unfix_batchnorm(model)
    assert all(module.training for module in model.modules())
