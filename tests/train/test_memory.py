"""The memory of a run, estimated without data or weights."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import timm.optim
import torch
from torch import nn
from torch.optim import Optimizer

from tests.train.tiny import make_backbone, make_model
from zoo.meta import on_meta
from zoo.registry.contracts import DeviceSettings
from zoo.train.memory import Memory, estimate_memory
from zoo.train.model import Model

SIDE = 32
FP32 = DeviceSettings(device="cpu", precision="fp32", channels_last=False)
Make = Callable[[Iterable[nn.Parameter]], Optimizer]


def sgd(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def momentum(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def adamw(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return torch.optim.AdamW(parameters)


def meta_model(arch: str = "test_resnet", frozen: tuple[str, ...] = ()) -> Model:
    """A model without memory, parts of its backbone frozen."""
    with on_meta():
        model = make_model(make_backbone(arch)).train()
    for name in frozen:
        model.get_submodule(f"backbone.{name}").eval().requires_grad_(False)
    return model


def estimate(model: Model, batch: int = 64, settings: DeviceSettings = FP32, make: Make = sgd, **more: Any) -> Memory:
    return estimate_memory(model, make(model.parameters()), (batch, 3, SIDE, SIDE), settings, **more)


def size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
@pytest.mark.parametrize(("make", "values", "steps"), [(sgd, 0, 0), (momentum, 1, 0), (adamw, 2, 1)])
def test_weights_gradients_and_state_are_exact(arch: str, make: Make, values: int, steps: int) -> None:
    model = meta_model(arch)
    parameters = list(model.parameters())
    memory = estimate(model, make=make)
    assert memory.weights == size([*parameters, *model.buffers()])
    assert memory.gradients == size(parameters)
    assert memory.optimizer == values * size(parameters) + steps * len(parameters) * 4  # AdamW counts steps in a float
    assert memory.peak == memory.weights + memory.gradients + memory.optimizer + memory.activations


def test_gradients_and_state_are_those_of_a_real_run() -> None:
    with torch.random.fork_rng(devices=[]):
        model = make_model(make_backbone()).train()
        optimizer = adamw(model.parameters())
        model.loss(model(torch.randn(2, 3, SIDE, SIDE)), torch.zeros(2, dtype=torch.long)).sum().backward()
    optimizer.step()
    memory = estimate(meta_model(), make=adamw)
    assert memory.gradients == size(parameter.grad for parameter in model.parameters() if parameter.grad is not None)
    assert memory.optimizer == size(value for state in optimizer.state.values() for value in state.values())


def test_what_is_frozen_has_no_gradient_no_state_and_keeps_no_activations() -> None:
    whole, part = meta_model(), meta_model(frozen=("conv1", "bn1", "layer1", "layer2"))
    trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
    all_of_it, rest = estimate(whole, make=momentum), estimate(part, make=momentum)
    assert rest.weights == all_of_it.weights
    assert rest.gradients == rest.optimizer == size(trained) < all_of_it.gradients
    assert rest.activations < all_of_it.activations / 2


def test_activations_grow_by_the_same_for_every_image() -> None:
    model = meta_model()
    one, two, three = (estimate(model, batch).activations for batch in (64, 128, 192))
    assert three - two == two - one > 0
    assert two / one == pytest.approx(2, rel=0.1)  # less than twice: room for the gradients is in it


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_keeps_half_of_most_activations(arch: str, precision: Any) -> None:
    model = meta_model(arch)
    full, half = estimate(model), estimate(model, settings=replace(FP32, precision=precision))
    assert 0.4 * full.activations < half.activations < 0.8 * full.activations
    assert replace(half, activations=full.activations) == full


def test_auto_is_fp32_in_torchs_own_format() -> None:
    model = meta_model()
    assert estimate(model, settings=DeviceSettings()) == estimate(model)


def test_the_second_micro_batch_meets_the_gradients_of_the_first() -> None:
    model = meta_model()
    one, four = estimate(model), estimate(model, accumulate=4)
    batch = 3 * 64 * 3 * SIDE * SIDE * (1 + 4)  # three more micro-batches, as bytes and as fp32
    assert 0 < four.activations - one.activations - batch <= one.gradients
    assert four.gradients == one.gradients
    assert estimate(model, accumulate=5).peak - four.peak == batch / 3


def test_an_optimiser_that_needs_values_is_taken_to_keep_two_a_parameter() -> None:
    model = meta_model()
    memory = estimate(model, make=lambda parameters: timm.optim.AdamP(list(parameters)))
    assert memory.optimizer == 2 * size(model.parameters())


def test_model_and_optimiser_are_left_as_they_were() -> None:
    model = meta_model(frozen=("layer1",))
    optimizer = adamw(model.parameters())
    tensors = {name: id(value) for name, value in model.state_dict(keep_vars=True).items()}
    needs = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    estimate_memory(model, optimizer, (4, 3, SIDE, SIDE), FP32)
    assert {name: id(value) for name, value in model.state_dict(keep_vars=True).items()} == tensors
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == needs
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(parameter.is_meta and parameter.grad is None for parameter in model.parameters())
    assert not optimizer.state
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters()}
