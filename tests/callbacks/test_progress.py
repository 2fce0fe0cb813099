"""Progress in words, and on a terminal."""

import logging
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.callbacks.events import evaluated, started
from zoo.callbacks.progress import ProgressLines, build, clock, describe
from zoo.registry.events import EpochStarted, RunEnded, StepEnded
from zoo.registry.parts import NoOptions

LINE = r"epoch 1/2  train/loss 1\.2500  val/loss 1\.5000  val/accuracy 50\.00 %  \d+ images/s(  \d+ s left)?  best"


def run(callback: ProgressLines) -> None:
    callback.run_started(started())
    callback.epoch_started(EpochStarted(0, 0))
    for step, loss in ((1, None), (2, 1.0), (3, 0.5)):
        callback.step_ended(StepEnded(step, 0, 8, 0.1, loss))
    callback.evaluated(evaluated(0, best=True))
    callback.run_ended(RunEnded("finished", 1.0, None))


def test_a_plain_line_an_epoch_without_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    screen = StringIO()
    with caplog.at_level(logging.INFO, "zoo"):
        run(ProgressLines(Console(file=screen, force_terminal=False)))
    assert screen.getvalue() == ""
    (line,) = caplog.messages
    assert re.fullmatch(LINE, line), line
    assert caplog.records[0].name == "zoo.progress"


def test_the_last_epoch_has_no_time_left(caplog: pytest.LogCaptureFixture) -> None:
    callback = ProgressLines(Console(file=StringIO(), force_terminal=False))
    callback.run_started(started())
    callback.epoch_started(EpochStarted(1, 3))
    callback.step_ended(StepEnded(4, 1, 8, 0.1, 1.0))
    with caplog.at_level(logging.INFO, "zoo"):
        callback.evaluated(evaluated(1))
    pattern = r"epoch 2/2  train/loss 1\.2500  val/loss 1\.5000  val/accuracy 50\.00 %  \d+ images/s"
    assert re.fullmatch(pattern, caplog.messages[0])


def test_a_live_bar_on_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with caplog.at_level(logging.INFO, "zoo"):
        run(ProgressLines(console))
    drawn = screen.getvalue()
    assert "epoch 1/2" in drawn
    assert "loss 0.500" in drawn
    assert "images/s" in drawn
    assert drawn.rstrip().endswith("\x1b[2K"), "the bar is wiped away at the end"
    assert len(caplog.messages) == 1


def test_build_draws_on_standard_error(tmp_path: Path) -> None:
    callback = build(NoOptions(), tmp_path)
    assert callback._console.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (4840, "1 h 20 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_metrics_in_words() -> None:
    metrics = {"train/loss": 0.5, "val/loss": 2.25, "val/accuracy": 0.98765, "val/mae": 12.3456, "lr": 1e-3}
    assert describe(metrics) == "train/loss 0.5000  val/loss 2.2500  val/accuracy 98.77 %  val/mae 12.35"
