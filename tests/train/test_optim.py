"""Optimisers by name, and the groups that they work on."""

import pytest
import timm.optim
import torch
from torch import nn

from tests.train.tiny import make_backbone, make_model, phases_of
from zoo.errors import ZooError
from zoo.recipe.schema import OptimTable
from zoo.registry.contracts import Rates
from zoo.train.model import Model
from zoo.train.optim import make_groups, make_optimizer, optimizer_names, set_rate


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model(make_backbone("test_vit"))


def mixed(model: nn.Module) -> Rates:
    """Every third parameter out, every third at rate zero, every third trained."""
    return {name: (None, 0.0, 1.0)[place % 3] for place, (name, _) in enumerate(model.named_parameters())}


def everything(model: nn.Module) -> Rates:
    return {name: 1.0 for name, _ in model.named_parameters()}


def test_groups_hold_every_parameter_with_a_rate_exactly_once(model: Model) -> None:
    rates, parameters = mixed(model), dict(model.named_parameters())
    groups = make_groups(model, phases_of(model, rates), 0.1)
    held = [
        (name, parameter) for group in groups for name, parameter in zip(group["names"], group["params"], strict=True)
    ]
    assert sorted(name for name, _ in held) == sorted(name for name, rate in rates.items() if rate is not None)
    assert all(parameters[name] is parameter for name, parameter in held)
    assert all(rates[name] == group["rate"] for group in groups for name in group["names"])


def test_biases_norms_and_position_embeddings_are_not_decayed(model: Model) -> None:
    groups = make_groups(model, phases_of(model, everything(model)), 0.1)
    decays = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert decays["backbone.pos_embed"] == 0  # three dimensions: left out because timm's model asks for it
    assert decays["backbone.cls_token"] == 0
    assert decays["heads.main.linear.weight"] == 0.1
    assert decays["backbone.blocks.0.attn.qkv.weight"] == 0.1
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert decays[name] == 0, name


def test_what_stands_at_rate_zero_is_not_decayed(model: Model) -> None:
    groups = make_groups(model, phases_of(model, dict.fromkeys(everything(model), 0.0)), 0.1)
    assert [(group["rate"], group["weight_decay"]) for group in groups] == [(0.0, 0.0)]


def test_set_rate_gives_every_group_its_share(model: Model) -> None:
    rates = {name: 0.25 if name.startswith("heads") else 1.0 for name in everything(model)}
    optimizer = make_optimizer(OptimTable(lr=1.0), model, phases_of(model, rates))
    set_rate(optimizer, 0.2)
    shares = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert shares["heads.main.linear.weight"] == 0.05
    assert shares["backbone.norm.weight"] == 0.2


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("adafactor", torch.optim.Adafactor),
        ("lamb", timm.optim.Lamb),
        ("adafactorbv", timm.optim.AdafactorBigVision),
    ],
)
def test_torch_s_name_wins_over_timm_s(model: Model, name: str, kind: type) -> None:
    assert type(make_optimizer(OptimTable(use=name), model, phases_of(model, everything(model)))) is kind
    assert name in optimizer_names()


def test_options_reach_the_optimiser(model: Model) -> None:
    table = OptimTable(use="sgd", lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.05)
    optimizer = make_optimizer(table, model, phases_of(model, everything(model)))
    assert optimizer.defaults["momentum"] == 0.8
    assert optimizer.defaults["nesterov"] is True
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}


def test_options_reach_timm_s_optimiser(model: Model) -> None:
    optimizer = make_optimizer(
        OptimTable(use="lamb", betas=(0.8, 0.9), eps=1e-3), model, phases_of(model, everything(model))
    )
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"]) == ((0.8, 0.9), 1e-3)


def test_an_unknown_name(model: Model) -> None:
    with pytest.raises(ZooError) as caught:
        make_optimizer(OptimTable(use="adamv"), model, phases_of(model, everything(model)))
    assert str(caught.value) == (
        "there is no optimiser 'adamv'\n  where: optim.use\n  mend:  did you mean 'adam' or 'radam' or 'nadam'?"
    )


def test_an_option_that_torch_s_optimiser_refuses(model: Model) -> None:
    with pytest.raises(ZooError) as caught:
        make_optimizer(OptimTable(use="adamw", momentum=0.9), model, phases_of(model, everything(model)))
    assert str(caught.value) == (
        "optimiser 'adamw' refuses its options: AdamW.__init__() got an unexpected keyword argument 'momentum'\n"
        "  where: [optim]\n  mend:  leave out the keys it does not take, or choose another optimiser"
    )


@pytest.mark.parametrize(
    ("name", "option"), [("lamb", {"momentum": 0.9}), ("lion", {"eps": 1e-6}), ("lars", {"betas": (0.9, 0.99)})]
)
def test_an_option_that_timm_would_drop_without_a_word(model: Model, name: str, option: dict[str, float]) -> None:
    with pytest.raises(ZooError) as caught:
        make_optimizer(OptimTable(use=name, **option), model, phases_of(model, everything(model)))
    assert str(caught.value) == (
        f"optimiser {name!r} refuses its options: it takes no {next(iter(option))}\n"
        "  where: [optim]\n  mend:  leave out the keys it does not take, or choose another optimiser"
    )


def test_a_step_at_rate_zero_moves_nothing() -> None:
    model = make_model()
    optimizer = make_optimizer(
        OptimTable(use="sgd", momentum=0.9), model, phases_of(model, dict.fromkeys(everything(model), 0.0))
    )
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    set_rate(optimizer, 1.0)
    model(torch.randn(2, 3, 32, 32))["main"].square().sum().backward()
    optimizer.step()
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
