"""Freezing around anybody's own loop."""

import pytest
import timm
import torch
from torch import nn

from zoo import freeze
from zoo.errors import RunError, ZooError
from zoo.registry.contracts import Layout, Rates


def make() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("test_resnet", num_classes=3)
    return model


def train(model: nn.Module, steps: int = 2, parameters: list[nn.Parameter] | None = None) -> None:
    """As a short script does it."""
    optimizer = torch.optim.AdamW(parameters or [p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(steps):
        model.train()
        model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_policy_by_name_freezes_a_plain_model() -> None:
    model = make()
    plan = freeze.apply(model, "stages", frozen=["conv1", "bn1", "layer1"])
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        name for name, rate in plan.rates.items() if rate is None
    }
    assert plan.rates["conv1.0.weight"] is None
    assert plan.rates["fc.weight"] == 1.0
    with freeze.audited(model):
        train(model)


def test_a_policy_of_one_s_own() -> None:
    def biases(layout: Layout, epoch: int) -> Rates:
        return {name: 1.0 if name.endswith("bias") else None for name in layout.parameters}

    model = make()
    freeze.apply(model, biases)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if name.endswith("bias")
    }


def test_another_policy_lets_go_of_the_first() -> None:
    model = make()
    freeze.apply(model, "head")
    freeze.apply(model, "none")
    assert all(p.requires_grad for p in model.parameters())
    with freeze.audited(model):
        train(model)


def test_the_head_is_the_last_linear_layer_or_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 4), nn.Linear(4, 2))
    assert freeze.apply(model, "head").trained() == {"2.weight", "2.bias"}
    assert freeze.apply(model, "head", head="1").trained() == {"1.weight", "1.bias"}


def test_a_model_without_a_linear_layer_must_name_its_head() -> None:
    with pytest.raises(ZooError) as caught:
        freeze.apply(nn.Sequential(nn.Conv2d(3, 4, 1)), "head")
    assert str(caught.value) == "the model has no nn.Linear to be its head\n  mend:  name the head: head = PREFIX"


def test_an_option_that_the_policy_lacks() -> None:
    with pytest.raises(ZooError) as caught:
        freeze.apply(make(), "layer-decay", decya=0.5)
    assert str(caught.value) == (
        "freeze policy 'layer-decay': decya: Extra inputs are not permitted\n  mend:  its options: decay, min_scale"
    )


def test_options_without_a_name() -> None:
    with pytest.raises(ZooError) as caught:
        freeze.apply(make(), lambda layout, epoch: {}, decay=0.5)
    assert str(caught.value) == "options are for a policy by name: decay\n  mend:  build them into the function"


def test_frozen_by_hand_drifts_and_is_caught() -> None:
    """requires_grad=False alone: what most scripts do. The batch norms go on counting."""
    model = make()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc."))
    with pytest.raises(RunError) as caught, freeze.audited(model):
        train(model)
    first = [name for name, _ in model.named_buffers()][:5]
    count = len(list(model.buffers()))
    assert str(caught.value) == (
        f"frozen, but moved: {', '.join(first)} and {count - 5} more\n  mend:  zoo.freeze.fix_batchnorm fixes"
        " statistics; a frozen parameter must have requires_grad=False throughout"
    )


def test_fixed_batch_norms_hold() -> None:
    model = make()
    freeze.fix_batchnorm(model)
    with freeze.audited(model):
        train(model)


def test_what_is_not_given_to_the_optimiser_is_caught() -> None:
    model = make()
    freeze.fix_batchnorm(model)
    with pytest.raises(RunError) as caught, freeze.audited(model):
        train(model, parameters=[p for name, p in model.named_parameters() if not name.startswith("fc.")])
    assert str(caught.value) == (
        "to be trained, but not moved: fc.weight, fc.bias\n"
        "  mend:  give them to the optimiser, freeze them, or name them in may_stay"
    )
    with freeze.audited(model, may_stay=["fc.*"]):
        train(model, parameters=[p for name, p in model.named_parameters() if not name.startswith("fc.")])


def test_the_block_s_own_error_goes_first() -> None:
    with pytest.raises(ValueError, match=r"^mine$"), freeze.audited(make()):
        raise ValueError("mine")
