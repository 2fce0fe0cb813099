"""Measuring: every "auto" resolved, and nothing else touched."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.tiny import make_model
from zoo.devices.measure import ROUNDS, Measured, choose_settings, count_rounds, describe, is_open
from zoo.registry.contracts import DeviceSettings
from zoo.train.model import Model

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def choose(model: Model, **settings: Any) -> Measured:
    def loss(images: Tensor) -> Tensor:
        return model.loss(model(images), torch.zeros(len(images), dtype=torch.long)).mean()

    return choose_settings(DeviceSettings(device="cpu", **settings), model.train(), loss, IMAGES, work=1000)


def test_the_model_and_the_random_state_are_as_they_were() -> None:
    model = make_model(dropout=0.5)
    before = {name: value.clone() for name, value in [*model.named_parameters(), *model.named_buffers()]}
    random = torch.get_rng_state()
    measured = choose(model)
    assert not is_open(measured.settings)
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_what_the_recipe_fixes_is_kept(precision: str, channels_last: bool) -> None:
    measured = choose(make_model(), precision=precision)
    assert measured.settings.precision == precision
    assert [name for name, _ in measured.rates] == [precision, f"{precision} channels_last"]
    measured = choose(make_model(), precision=precision, channels_last=channels_last)
    assert measured.settings == DeviceSettings("cpu", measured.settings.precision, channels_last)
    assert len(measured.rates) == 1
    assert measured.rates[0][1] > 0


@pytest.mark.parametrize(("work", "rounds"), [(0, 1), (1_120, 1), (1_919, 1), (1_920, 2), (2_560, 3), (10**7, ROUNDS)])
def test_measuring_takes_no_more_than_a_twentieth_of_a_run_but_two_rounds(work: int, rounds: int) -> None:
    assert count_rounds(work, 32) == rounds


def test_the_fastest_is_taken_when_it_is_clearly_faster() -> None:
    measured = choose(make_model(), precision="fp32")
    rates = dict(measured.rates)
    assert rates[describe(measured.settings)] >= max(rates.values()) / 1.1


@pytest.mark.parametrize(
    ("precision", "channels_last", "words", "left"),
    [
        ("fp32", False, "fp32", False),
        ("bf16", True, "bf16 channels_last", False),
        ("auto", True, "auto channels_last", True),
        ("fp32", "auto", "fp32 channels_last", True),
    ],
)
def test_in_words(precision: Any, channels_last: Any, words: str, left: bool) -> None:
    settings = DeviceSettings("cpu", precision, channels_last)
    assert (describe(settings), is_open(settings)) == (words, left)


def test_rates_in_words() -> None:
    measured = Measured(DeviceSettings(), (("fp32", 12.4), ("fp32 channels_last", 99.6)))
    assert str(measured) == "fp32 12, fp32 channels_last 100"
