"""Schedules: exact rates at the steps that matter, and the closed forms."""

from itertools import pairwise
from math import cos, pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR

from zoo.recipe.schema import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    OneCycleSchedule,
    Schedule,
    StepSchedule,
)
from zoo.train.schedule import factor

SHAPES = st.one_of(
    st.builds(ConstantSchedule, use=st.just("constant"), warmup=st.floats(0, 0.99)),
    st.builds(LinearSchedule, use=st.just("linear"), warmup=st.floats(0, 0.99), floor=st.floats(0, 1)),
    st.builds(CosineSchedule, warmup=st.floats(0, 0.99), floor=st.floats(0, 1)),
    st.builds(
        StepSchedule,
        use=st.just("step"),
        warmup=st.floats(0, 0.99),
        milestones=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3),
        gamma=st.floats(0.01, 0.99),
    ),
    st.builds(OneCycleSchedule, use=st.just("one-cycle"), warmup=st.floats(0.01, 0.99), start=st.floats(0, 1)),
)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (ConstantSchedule(use="constant"), [1.0] * 10),
        (ConstantSchedule(use="constant", warmup=0.4), [0.2, 0.4, 0.6, 0.8, *[1.0] * 6]),
        (LinearSchedule(use="linear", floor=0.1), [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (LinearSchedule(use="linear", warmup=0.1), [0.5, 1.0, *[1 - i / 8 for i in range(1, 9)]]),
        (
            StepSchedule(use="step", milestones=[0.3, 0.6], gamma=0.1),
            [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01],
        ),
    ],
    ids=["constant", "warm-up", "linear", "linear after warm-up", "step"],
)
def test_every_rate_of_ten_steps(schedule: Schedule, rates: list[float]) -> None:
    assert [factor(schedule, step, 10) for step in range(10)] == pytest.approx(rates)


@settings(max_examples=30, deadline=None)
@given(total=st.integers(2, 300), floor=st.floats(0, 1), data=st.data())
def test_cosine_is_its_closed_form(total: int, floor: float, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, total - 1))
    expected = floor + (1 - floor) * (1 + cos(pi * step / (total - 1))) / 2
    assert factor(CosineSchedule(floor=floor), step, total) == pytest.approx(expected, abs=1e-12)


def test_cosine_peaks_right_after_the_warm_up_and_ends_at_the_floor() -> None:
    schedule = CosineSchedule(warmup=0.2, floor=0.05)
    assert factor(schedule, 4, 20) == 1.0
    assert factor(schedule, 19, 20) == pytest.approx(0.05)


@pytest.mark.parametrize("total", [2, 3, 4, 5, 11, 100, 997])
@pytest.mark.parametrize("warmup", [0.1, 0.3, 0.77])
def test_one_cycle_is_torch_s(total: int, warmup: float) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = OneCycleLR(optimizer, 1.0, total_steps=total, pct_start=warmup, cycle_momentum=False)
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < total:
            scheduler.step()
    schedule = OneCycleSchedule(use="one-cycle", warmup=warmup)
    assert [factor(schedule, step, total) for step in range(total)] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(schedule=SHAPES, total=st.integers(1, 200))
def test_rates_are_shares_and_pure(schedule: Schedule, total: int) -> None:
    rates = [factor(schedule, step, total) for step in range(total)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert [factor(schedule, step, total) for step in reversed(range(total))] == rates[::-1]


@settings(max_examples=30, deadline=None)
@given(warmup=st.floats(0, 0.99), total=st.integers(1, 300))
def test_warm_up_rises_from_above_zero_to_the_peak(warmup: float, total: int) -> None:
    schedule = ConstantSchedule(use="constant", warmup=warmup)
    rates = [factor(schedule, step, total) for step in range(total)]
    warm = round(warmup * total)
    assert rates[0] > 0
    assert all(first < second for first, second in pairwise(rates[: warm + 1]))
    assert rates[warm:] == [1.0] * (total - warm)
