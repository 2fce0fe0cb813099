"""Early stopping against its naive definition."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.callbacks.events import evaluated, started
from zoo.callbacks.early_stop import EarlyStop, build
from zoo.errors import ZooError
from zoo.registry.builtin.callbacks import EarlyStopOptions


def make(
    best_by: str = "val/accuracy", metric: str = "best_by", patience: int = 2, min_delta: float = 0.0
) -> EarlyStop:
    options = EarlyStopOptions(patience=patience, min_delta=min_delta, metric=metric)
    callback = build(options, Path("run"))
    callback.run_started(started(best_by=best_by))
    return callback


@pytest.mark.parametrize(
    ("best_by", "values", "waited"),
    [
        ("val/accuracy", [], 0),
        ("val/accuracy", [0.1], 0),
        ("val/accuracy", [0.1, 0.2, 0.2, 0.1], 2),
        ("val/accuracy", [0.3, 0.2, 0.4], 0),
        ("val/accuracy", [float("nan"), float("nan")], 2),
        ("val/accuracy", [float("nan"), 0.1], 0),
        ("val/loss", [0.3, 0.2, 0.4], 1),
        ("val/loss", [0.3, 0.3, 0.3], 2),
    ],
)
def test_epochs_waited(best_by: str, values: list[float], waited: int) -> None:
    assert make(best_by).waited(values) == waited


def test_less_than_the_least_change_is_no_improvement() -> None:
    assert make(min_delta=0.1).waited([0.5, 0.55, 0.59]) == 2
    assert make(min_delta=0.1).waited([0.5, 0.55, 0.65]) == 0


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(-3, 3).map(float), max_size=12), lower=st.booleans())
def test_waited_is_how_long_ago_the_best_value_first_came(values: list[float], lower: bool) -> None:
    best = min(values, default=0.0) if lower else max(values, default=0.0)
    naive = len(values) - 1 - values.index(best) if values else 0
    assert make("val/loss" if lower else "val/accuracy").waited(values) == naive


def test_the_reason() -> None:
    history = [evaluated(0, 0.5), evaluated(1, 0.4), evaluated(2, 0.3)]
    assert make().should_stop(history[:2]) is None
    assert make().should_stop(history) == "val/accuracy has not improved for 2 epochs"
    assert make(patience=1).should_stop(history[:2]) == "val/accuracy has not improved for 1 epoch"


def test_a_metric_of_its_own() -> None:
    assert make(metric="val/loss", patience=1).should_stop([evaluated(0, 0.1), evaluated(1, 0.2)]) == (
        "val/loss has not improved for 1 epoch"
    )


def test_a_metric_that_nothing_measures() -> None:
    with pytest.raises(ZooError) as caught:
        make(metric="val/acuracy")
    assert str(caught.value) == (
        "nothing measures 'val/acuracy'\n  where: callback.early-stop.metric\n  mend:  did you mean 'val/accuracy'?"
    )
