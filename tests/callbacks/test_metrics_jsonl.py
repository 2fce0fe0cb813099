"""metrics.jsonl equals the history, resumed or not."""

import json
from pathlib import Path

from tests.callbacks.events import evaluated, started
from zoo.callbacks.metrics_jsonl import build
from zoo.registry.parts import NoOptions

FIRST = {
    "epoch": 1,
    "step": 3,
    "train/loss": 1.25,
    "val/loss": 1.5,
    "val/accuracy": 0.25,
    "lr": 0.001,
    "best": True,
}


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_an_epoch(tmp_path: Path) -> None:
    callback = build(NoOptions(), tmp_path)
    callback.run_started(started(tmp_path))
    assert lines(tmp_path) == []
    callback.evaluated(evaluated(0, 0.25, best=True))
    callback.evaluated(evaluated(1, 0.125))
    assert lines(tmp_path) == [FIRST, {**FIRST, "epoch": 2, "step": 6, "val/accuracy": 0.125, "best": False}]


def test_a_resumed_run_doubles_no_line_and_lacks_none(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "val/accuracy": 0.9}\n{"epoch": 2}\n{"epo')
    callback = build(NoOptions(), tmp_path)
    callback.run_started(started(tmp_path, history=(evaluated(0, 0.25, best=True),)))
    assert lines(tmp_path) == [FIRST]
    callback.evaluated(evaluated(1))
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2]
