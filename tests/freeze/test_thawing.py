"""Policies that thaw: which epoch has which rates."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.tiny import layout, make_backbone, make_model
from zoo.errors import ZooError
from zoo.freeze.names import under
from zoo.freeze.plan import make_phases, phase_at
from zoo.freeze.thawing import gradual, two_phase
from zoo.registry.builtin.freeze import GradualOptions, TwoPhaseOptions
from zoo.registry.contracts import Layout, Rates

BACKBONE = make_backbone()
MODEL = make_model(BACKBONE)
STAGES = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]


def long(epochs: int) -> Layout:
    return layout(BACKBONE, MODEL, epochs)


def by_stage(rates: Rates) -> dict[str, float | None]:
    """The rate of each stage, and of the heads, which must be one."""
    found: dict[str, float | None] = {}
    for prefix in (*(f"backbone.{stage}" for stage in STAGES), "heads"):
        (found[prefix.removeprefix("backbone.")],) = {rate for name, rate in rates.items() if under(name, prefix)}
    return found


def test_two_phase() -> None:
    policy = two_phase(TwoPhaseOptions(head_epochs=2, rate=0.1))
    assert by_stage(policy(long(3), 1)) == {**dict.fromkeys(STAGES), "heads": 1.0}
    assert by_stage(policy(long(3), 2)) == {**dict.fromkeys(STAGES, 0.1), "heads": 1.0}


def test_two_phase_must_reach_the_second() -> None:
    with pytest.raises(ZooError) as caught:
        two_phase(TwoPhaseOptions(head_epochs=3))(long(3), 0)
    assert str(caught.value) == (
        "the backbone begins to train with epoch 4, and the run ends with epoch 3\n"
        "  where: [freeze]\n  mend:  raise run.epochs, or let it thaw earlier"
    )


def test_gradual_thaws_the_last_stage_first_each_at_its_rate() -> None:
    policy = gradual(GradualOptions(every=2, decay=0.5))
    frozen = dict.fromkeys(STAGES)
    assert by_stage(policy(long(12), 1)) == {**frozen, "heads": 1.0}
    assert by_stage(policy(long(12), 2)) == {**frozen, "layer4": 0.5, "heads": 1.0}
    assert by_stage(policy(long(12), 5)) == {**frozen, "layer4": 0.5, "layer3": 0.25, "heads": 1.0}
    last = {"conv1": 1 / 64, "bn1": 1 / 32, "layer1": 1 / 16, "layer2": 1 / 8, "layer3": 1 / 4, "layer4": 1 / 2}
    assert by_stage(policy(long(13), 12)) == {**last, "heads": 1.0}


def test_gradual_at_given_epochs_and_rates() -> None:
    policy = gradual(GradualOptions(thaw={"layer4": 1, "layer3": 3}, rates={"layer3": 0.2}, decay=0.5))
    frozen = dict.fromkeys(STAGES)
    assert by_stage(policy(long(4), 0)) == {**frozen, "heads": 1.0}
    assert by_stage(policy(long(4), 2)) == {**frozen, "layer4": 0.5, "heads": 1.0}
    assert by_stage(policy(long(4), 3)) == {**frozen, "layer4": 0.5, "layer3": 0.2, "heads": 1.0}


def test_gradual_names_what_the_run_does_not_reach() -> None:
    with pytest.raises(ZooError) as caught:
        gradual(GradualOptions(thaw={"layer4": 1, "layer3": 4}))(long(4), 0)
    assert str(caught.value) == (
        "layer3 begins to train with epoch 5, and the run ends with epoch 4\n"
        "  where: [freeze]\n  mend:  raise run.epochs, or let it thaw earlier"
    )


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.sampled_from(STAGES), st.integers(0, 5), min_size=1),
    st.integers(6, 9),
)
def test_phases_partition_the_run_and_give_every_epoch_its_own_rates(thaw: dict[str, int], epochs: int) -> None:
    policy, found = gradual(GradualOptions(thaw=thaw)), long(epochs)
    phases = make_phases(MODEL, found, policy)
    assert [phase.first for phase in phases] == [0, *(phase.end for phase in phases[:-1])]
    assert phases[-1].end == epochs
    for epoch in range(epochs):
        assert phase_at(phases, epoch).plan.rates == policy(found, epoch)
    trained = [phase.plan.trained() for phase in phases]
    assert all(before < after for before, after in pairwise(trained))  # it only ever thaws


def test_gradual_names_what_is_not_there() -> None:
    with pytest.raises(ZooError) as caught:
        gradual(GradualOptions(thaw={"layr4": 1}))(long(4), 0)
    assert str(caught.value).startswith("freeze.thaw names 'layr4', and no parameter of the backbone lies under it")
