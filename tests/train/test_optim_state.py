"""The optimiser's state by name, there and back to the same bits."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from tests.train.tiny import make_model, phases_of
from zoo.errors import RunError
from zoo.recipe.schema import OptimTable
from zoo.train.checkpoint import Checkpoints
from zoo.train.model import Model
from zoo.train.optim import make_optimizer, set_rate
from zoo.train.optim_state import load_optimizer, optimizer_numbers, optimizer_tensors

TABLES = {
    "adamw": OptimTable(),
    "sgd": OptimTable(use="sgd"),
    "momentum": OptimTable(use="sgd", momentum=0.9),
    "lamb": OptimTable(use="lamb"),  # counts its steps in a tensor of each group
    "adafactor": OptimTable(use="adafactor"),  # state of other shapes than the parameters
    "radamlegacy": OptimTable(use="radamlegacy"),
    "nadamlegacy": OptimTable(use="nadamlegacy"),  # plain numbers beside tensors
    "novograd": OptimTable(use="novograd"),
}


def make(table: OptimTable, rate: float = 1.0) -> tuple[Model, Optimizer]:
    model = make_model().to(memory_format=torch.channels_last)
    return model, make_optimizer(table, model, phases_of(model, {name: rate for name, _ in model.named_parameters()}))


def step(model: nn.Module, optimizer: Optimizer, seed: int) -> None:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    set_rate(optimizer, 1e-2)
    model(images.contiguous(memory_format=torch.channels_last))["main"].square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", TABLES)
def test_a_resumed_optimiser_takes_the_same_steps(tmp_path: Path, name: str) -> None:
    model, optimizer = make(TABLES[name])
    for seed in range(2):
        step(model, optimizer, seed)
    tensors = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer)}
    Checkpoints(tmp_path, 1).save(2, tensors, {"optimizer": optimizer_numbers(optimizer)}, best=False)
    kept = Checkpoints(tmp_path, 1).newest()
    assert kept is not None

    again, second = make(TABLES[name])
    again.load_state_dict(kept.tensors["model"])
    load_optimizer(second, kept.tensors["optimizer"], kept.state["optimizer"])
    for key, value in optimizer_tensors(optimizer).items():
        assert torch.equal(optimizer_tensors(second)[key], value), key
    for seed in range(2, 4):
        step(model, optimizer, seed)
        step(again, second, seed)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_state_goes_by_the_parameters_names() -> None:
    model, optimizer = make(TABLES["adamw"])
    step(model, optimizer, 0)
    keys = {f"{name}/{key}" for name, _ in model.named_parameters() for key in ("step", "exp_avg", "exp_avg_sq")}
    assert set(optimizer_tensors(optimizer)) == keys


def by_name(model: nn.Module) -> Optimizer:
    return make_optimizer(
        TABLES["momentum"], model, phases_of(model, {name: 1.0 for name, _ in model.named_parameters()})
    )


def test_names_go_without_wrapper_segments() -> None:
    """All four cases, under every wrapper, are in tests/weights/test_moving.py."""
    model = nn.Sequential(nn.DataParallel(nn.Linear(2, 2)))
    model[0].module.weight.grad = torch.ones(2, 2)
    optimizer = by_name(nn.DataParallel(model))
    optimizer.step()
    assert set(optimizer_tensors(optimizer)) == {"0.weight/momentum_buffer"}


def test_names_with_wrapper_segments_are_still_read() -> None:
    """So they stand in checkpoints of models with a module truly called `module`, from before they were left out."""
    plain = nn.Sequential(nn.Linear(2, 2))
    optimizer = by_name(plain)
    kept = {"0.module.weight/momentum_buffer": torch.ones(2, 2)}
    load_optimizer(optimizer, kept, {"use": "SGD", "groups": 2, "state": {}})
    assert torch.equal(optimizer.state[plain[0].weight]["momentum_buffer"], torch.ones(2, 2))


class Twins(nn.Linear):
    """A weight, and another one by the same name in a module truly called `module`."""

    def __init__(self) -> None:
        super().__init__(2, 2, bias=False)
        self.module = nn.Linear(2, 2, bias=False)


def stepped() -> tuple[Twins, Optimizer]:
    model = Twins()
    optimizer = by_name(model)
    model.weight.grad, model.module.weight.grad = torch.full((2, 2), 1.0), torch.full((2, 2), 2.0)
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_module_truly_called_module_keeps_its_own_state(wrapped: bool) -> None:
    model, optimizer = stepped()
    again = Twins()
    second = by_name(nn.DataParallel(again) if wrapped else again)
    load_optimizer(second, optimizer_tensors(optimizer), optimizer_numbers(optimizer))
    for old, new in ((model.weight, again.weight), (model.module.weight, again.module.weight)):
        assert torch.equal(second.state[new]["momentum_buffer"], optimizer.state[old]["momentum_buffer"])


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (nn.Linear(2, 2, bias=False), "module.weight"),  # it would be the second state of one parameter
        (nn.Sequential(nn.Linear(2, 2, bias=False)), "weight"),
        (nn.Sequential(nn.DataParallel(Twins())), "weight"),
    ],
)
def test_state_that_has_no_place_is_refused(model: nn.Module, name: str) -> None:
    _, optimizer = stepped()
    second = by_name(model)
    with pytest.raises(RunError) as caught:
        load_optimizer(second, optimizer_tensors(optimizer), optimizer_numbers(optimizer))
    told = f"the checkpoint has an optimiser state of {name}, which is not trained now"
    assert str(caught.value) == f"{told}\n{HINT}"
    assert not optimizer_tensors(second)


def test_running_averages_keep_the_strides_of_channels_last() -> None:
    model, optimizer = make(TABLES["momentum"])
    step(model, optimizer, 0)
    written = {key: value.contiguous() for key, value in optimizer_tensors(optimizer).items()}
    _, second = make(TABLES["momentum"])
    load_optimizer(second, written, optimizer_numbers(optimizer))
    images = [value for value in optimizer_tensors(second).values() if value.dim() == 4]
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in images)
    assert any(not value.is_contiguous() for value in images)


def test_a_resume_may_change_what_the_recipe_says() -> None:
    model, optimizer = make(OptimTable(weight_decay=0.1, eps=1e-8))
    step(model, optimizer, 0)
    _, second = make(OptimTable(weight_decay=0.2, eps=1e-6))
    load_optimizer(second, optimizer_tensors(optimizer), json.loads(json.dumps(optimizer_numbers(optimizer))))
    assert [(group["weight_decay"], group["eps"]) for group in second.param_groups] == [(0.2, 1e-6), (0.0, 1e-6)]


HINT = "  mend:  a resume keeps [optim] use and [freeze] as they were; or start a new run from these weights"


def test_another_optimiser_s_state() -> None:
    _, optimizer = make(TABLES["adamw"])
    _, second = make(TABLES["sgd"])
    with pytest.raises(RunError) as caught:
        load_optimizer(second, optimizer_tensors(optimizer), optimizer_numbers(optimizer))
    assert str(caught.value) == f"the optimiser was AdamW in the checkpoint and is SGD now\n{HINT}"


def test_state_of_other_groups() -> None:
    model, optimizer = make(TABLES["lamb"])
    step(model, optimizer, 0)
    _, second = make(TABLES["lamb"], rate=0.0)
    with pytest.raises(RunError) as caught:
        load_optimizer(second, optimizer_tensors(optimizer), optimizer_numbers(optimizer))
    assert str(caught.value) == f"the number of parameter groups was 2 in the checkpoint and is 1 now\n{HINT}"


def test_how_many_groups_there_are_is_no_matter_where_none_has_a_state() -> None:
    model, optimizer = make(TABLES["adamw"])
    step(model, optimizer, 0)
    again, second = make(TABLES["adamw"], rate=0.0)
    load_optimizer(second, optimizer_tensors(optimizer), optimizer_numbers(optimizer))
    first = dict(model.named_parameters())
    for name, parameter in again.named_parameters():
        assert torch.equal(second.state[parameter]["exp_avg"], optimizer.state[first[name]]["exp_avg"])


def test_state_that_no_checkpoint_could_hold() -> None:
    """timm's kron keeps lists of tensors; it is not stepped here, because its step is compiled first."""
    model, optimizer = make(TABLES["adamw"])
    optimizer.state[next(model.parameters())] = {"Q": [torch.ones(1)]}
    with pytest.raises(RunError) as caught:
        optimizer_tensors(optimizer)
    assert str(caught.value) == (
        "optimiser AdamW keeps 'Q' of type list, which a checkpoint cannot hold\n"
        "  where: [optim] use\n  mend:  choose another optimiser"
    )
