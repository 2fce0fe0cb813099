"""The callback by itself: what MLflow has of single events, what it refuses, and what is left alone."""

import logging
import os
import random
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from zoo.testing import check_callback

from zoo_mlflow.callback import Mlflow, build
from zoo_mlflow.names import parameter_key, parameters, shortened
from zoo_mlflow.plugin import PARTS, MlflowOptions
from zoo_mlflow.store import artefacts_of, connect, load, read_note


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that many runs share: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'shared.db'}"


def test_artefacts_lie_beside_the_database_and_not_in_the_working_folder(tmp_path: Path) -> None:
    beside = (tmp_path / "artefacts").as_uri()
    assert artefacts_of(tmp_path, None) == beside
    assert artefacts_of(Path("run"), f"sqlite:///{tmp_path}/all.db") == beside
    assert artefacts_of(tmp_path, "http://server:5000") is None


def copied(store: str, path: Path) -> str:
    """Another store with what is in this one."""
    shutil.copy(store.removeprefix("sqlite:///"), path)
    return f"sqlite:///{path}"


def started(folder: Path, **fields: Any) -> zoo.RunStarted:
    given: dict[str, Any] = {
        "name": "tiny",
        "folder": folder,
        "epochs": 2,
        "steps_per_epoch": 3,
        "images_per_epoch": 20,
        "step": 0,
        "best_by": "val/loss",
        "directions": {"val/loss": "min"},
        "history": (),
        "recipe": {"run": {"name": "tiny", "epochs": 2}},
        "classes": ("cat", "dog"),
        "input": zoo.InputSpec(size=(8, 8)),
        "network": torch.nn.Flatten,
    }
    (folder / "recipe.toml").write_text("format = 1\n")
    return zoo.RunStarted(**{**given, **fields})


def begun(folder: Path, store: str, every: int = 1, **fields: Any) -> Mlflow:
    options = MlflowOptions(every=every, tracking_uri=store, experiment="Δ runs", artefacts=False)
    callback = build(options, folder)
    callback.run_started(started(folder, **fields))
    return callback


def step(number: int, loss: float | None = 2.0) -> zoo.StepEnded:
    return zoo.StepEnded(number, 0, 8, 0.1, loss, {"x1": 0.1, "x0.1": 0.01})


def found(folder: Path, store: str) -> tuple[Any, Any]:
    note = read_note(folder / "mlflow")
    assert note is not None
    client = connect(folder / "mlflow", store, "")
    return client, client.get_run(note.run)


def steps(folder: Path, store: str, name: str) -> list[int]:
    client, run = found(folder, store)
    return [point.step for point in client.get_metric_history(run.info.run_id, name)]


@pytest.mark.parametrize(
    ("reason", "status"), [("failed: no space", "FAILED"), ("interrupted", "KILLED"), ("stopped: enough", "FINISHED")]
)
def test_however_a_run_ends_its_points_and_its_status_are_there(
    tmp_path: Path, store: str, reason: str, status: str
) -> None:
    callback = begun(tmp_path, store)
    callback.step_ended(step(1))
    callback.step_ended(step(2, None))
    callback.run_ended(zoo.RunEnded(reason, 1.0, None))
    _, run = found(tmp_path, store)
    assert (run.info.status, run.data.tags["zoo.reason"]) == (status, reason)
    assert run.data.metrics == {"train/step_loss": 2.0, "rate/x1": 0.1, "rate/x0.1": 0.01}
    assert (steps(tmp_path, store, "train/step_loss"), steps(tmp_path, store, "rate/x1")) == ([1], [1, 2])


def test_a_resume_is_the_same_run_with_what_it_lacks_and_nothing_twice(tmp_path: Path, store: str) -> None:
    """Killed after step 4, with a checkpoint at step 2 whose evaluation was not logged yet."""
    callback = begun(tmp_path, store)
    for number in (1, 2, 3, 4):
        callback.step_ended(step(number))
    callback._tracked.flush()  # type: ignore[union-attr]
    history = (zoo.Evaluated(0, 2, {"val/loss": 1.5}, True),)
    recipe = {"run": {"name": "tiny", "epochs": 3, "seed": 1}}
    callback = begun(tmp_path, store, step=2, history=history, recipe=recipe)
    _, run = found(tmp_path, store)
    assert run.info.status == "RUNNING"
    for number in (3, 4, 5):
        callback.step_ended(step(number))
    ended = zoo.Evaluated(1, 5, {"val/loss": 1.25}, True)
    callback.evaluated(ended)
    callback.run_ended(zoo.RunEnded("finished", 1.0, ended))
    assert steps(tmp_path, store, "train/step_loss") == [1, 2, 3, 4, 5]
    assert steps(tmp_path, store, "val/loss") == [2, 5]
    _, run = found(tmp_path, store)
    assert run.data.metrics["best/val/loss"] == 1.25
    assert run.data.params == {"run.name": "tiny", "run.epochs": "2", "run.seed": "1"}
    assert run.data.tags["changed.run.epochs"] == "3"


@pytest.mark.slow
def test_it_is_what_a_callback_promises(store: str) -> None:
    connect(Path(), store, "")  # the tables are there
    check_callback(PARTS[0], {"tracking_uri": store, "every": 1})


def test_what_mlflow_would_refuse_is_changed_or_cut(tmp_path: Path, store: str) -> None:
    recipe = {"a": {"é/ü": "", "long": "x" * 7000, "k" * 300: 1}, "b": [{"c": [1, True, "ß"]}, {"c": None}]}
    callback = begun(tmp_path, store, recipe=recipe)
    callback.run_ended(zoo.RunEnded("finished", 1.0, None))
    _, run = found(tmp_path, store)
    assert run.data.params == dict(parameters(recipe))
    assert run.data.params[parameter_key("a.é/ü")] == ""
    assert (run.data.params["b.0.c"], run.data.params["b.1.c"]) == ('[1, true, "ß"]', "null")
    assert len(run.data.params["a.long"]) == 6000


def test_changed_keys_stay_apart() -> None:
    keys = [parameter_key(name) for name in ("a/b", "a:b", "a_b", "x" * 300, "x" * 301)]
    assert len(set(keys)) == 5
    assert max(map(len, keys)) == 250
    assert keys[2] == "a_b"
    assert shortened("abcdef", 4) == "abc…"


def test_the_process_is_left_as_it_was(tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    def state() -> tuple[Any, ...]:
        threads = sorted(thread.name for thread in threading.enumerate())
        filters, environment = list(warnings.filters), dict(os.environ)
        return random.getstate(), filters, environment, threads, logging.getLogger("mlflow").level

    load()
    before, chance = state(), torch.get_rng_state()
    callback = begun(tmp_path, store)
    callback.step_ended(step(1))
    callback.run_ended(zoo.RunEnded("finished", 1.0, None))
    assert state() == before
    assert torch.equal(torch.get_rng_state(), chance)
    assert capsys.readouterr() == ("", "")


def test_a_store_that_is_gone_at_the_end_is_only_said(
    tmp_path: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    callback = begun(tmp_path, copied(store, tmp_path / "own.db"))
    (tmp_path / "own.db").unlink()
    callback.run_ended(zoo.RunEnded("finished", 1.0, None))
    said = [record.message for record in caplog.records if record.name == "zoo.mlflow"]
    assert len(said) == 1
    assert said[0].startswith("MLflow cannot track the run: ")


def test_a_spoilt_note_is_refused(tmp_path: Path, store: str) -> None:
    (tmp_path / "mlflow").mkdir()
    note = tmp_path / "mlflow/run.json"
    note.write_text('{"run": 1}')
    with pytest.raises(zoo.ZooError) as refused:
        begun(tmp_path, store)
    assert str(refused.value) == (
        "cannot read run.json: Note.__init__() missing 2 required positional arguments: 'store' and 'database'\n"
        f"  where: {note}\n"
        "  mend:  remove it: the run is then a new one for MLflow"
    )


def test_another_store_has_another_run(tmp_path: Path, store: str) -> None:
    begun(tmp_path, store).run_ended(zoo.RunEnded("interrupted", 1.0, None))
    _, first = found(tmp_path, store)
    other = copied(store, tmp_path / "other.db")
    begun(tmp_path, other, step=2).run_ended(zoo.RunEnded("finished", 1.0, None))
    _, second = found(tmp_path, other)
    assert first.info.run_id != second.info.run_id
    assert second.info.status == "FINISHED"


def test_zoo_lists_it_and_importing_it_is_light() -> None:
    command = [str(Path(sys.executable).with_name("zoo")), "list", "callback"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split("  ")[0] for line in listed.stdout.splitlines() if "zoo-mlflow" in line] == ["mlflow"]
    heavy = "torch", "mlflow", "sqlalchemy", "numpy"
    script = f"import sys, zoo_mlflow.plugin; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_mlflow_reports_nothing_home() -> None:
    script = (
        "from pathlib import Path; from zoo_mlflow.store import load; load();"
        "from mlflow.telemetry import get_telemetry_client; print(get_telemetry_client());"
        "import os; print('MLFLOW_DISABLE_TELEMETRY' in os.environ)"
    )
    plain = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=plain)
    assert told.stdout == "None\nFalse\n"
