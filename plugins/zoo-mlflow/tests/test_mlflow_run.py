"""Real runs, read back through MLflow's own client."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import zoo

from zoo_mlflow.store import connect

README = Path(__file__).resolve().parents[1] / "README.md"
TINY = ("backbone.arch=test_resnet", "data.image_size=16", "data.workers=0", "run.batch_size=256", "run.epochs=2")
HERE = ("device.device=cpu", "device.precision=fp32", "device.channels_last=false")
STEPS = 6  # an epoch


def recipe(folder: Path, *sets: str) -> zoo.Recipe:
    """The README's recipe, shortened."""
    (text,) = re.findall(r"```toml\n(format = 1\n.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return zoo.load_recipe(path, sets=[*TINY, *HERE, *sets])


def tracked(run: Path, database: str = "mlflow.db") -> tuple[Any, Any]:
    """The client, and the only run of the run's own store."""
    client = connect(run / "mlflow", None, database)
    experiment = client.get_experiment_by_name("digits")
    (found,) = client.search_runs([experiment.experiment_id])
    return client, found


def points(client: Any, run: Any, name: str) -> dict[int, float]:
    """{step: value}; a doubled point would be lost, so their number is compared."""
    history = client.get_metric_history(run.info.run_id, name)
    values = {point.step: point.value for point in history}
    assert len(values) == len(history), name
    return dict(sorted(values.items()))


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the README's recipe."""
    folder = tmp_path_factory.mktemp("readme")
    zoo.finetune(recipe(folder), folder / "run")
    return folder / "run"


def test_parameters_are_the_recipe(run: Path) -> None:
    _, found = tracked(run)
    params = found.data.params
    assert params["run.epochs"] == "2"
    assert params["optim.lr"] == "0.001"
    assert params["backbone.arch"] == "test_resnet"
    assert params["callback.0.experiment"] == "digits"
    assert params["device.channels_last"] == "false"


def test_metrics_are_those_of_the_run(run: Path) -> None:
    client, found = tracked(run)
    lines = metrics(run)
    for name in ("train/loss", "val/loss", "val/accuracy", "lr"):
        assert points(client, found, name) == {line["step"]: line[name] for line in lines}
    assert list(points(client, found, "train/step_loss")) == [5, 10]
    assert list(points(client, found, "rate/x1")) == [5, 10]
    best = next(line for line in reversed(lines) if line["best"])
    for name in ("val/loss", "val/accuracy"):
        assert points(client, found, f"best/{name}") == {2 * STEPS: best[name]}


def test_status_and_tags_say_what_it_was(run: Path) -> None:
    _, found = tracked(run)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "digits_mlflow")
    tags = {key: value for key, value in found.data.tags.items() if not key.startswith("mlflow.")}
    assert tags == {
        "zoo.version": zoo.__version__,
        "zoo.folder": str(run),
        "zoo.classes": json.dumps([str(digit) for digit in range(10)]),
        "zoo.reason": "finished",
    }


def test_artefacts_are_the_recipe_and_the_whole_bundle(run: Path) -> None:
    client, found = tracked(run)
    root = Path(client.download_artifacts(found.info.run_id, ""))
    assert root.is_relative_to(run / "mlflow/artefacts")
    assert (root / "recipe.toml").read_bytes() == (run / "recipe.toml").read_bytes()
    files = sorted(path.relative_to(run / "export") for path in (run / "export").rglob("*") if path.is_file())
    assert Path("model.json") in files
    for file in files:
        assert (root / "export" / file).read_bytes() == (run / "export" / file).read_bytes()


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run_and_doubles_no_point(tmp_path: Path) -> None:
    """A finished run loses its last checkpoint, as if it had been killed: its last epoch is run anew."""
    sets, run = ("callback.0.every=1", "export=[]"), tmp_path / "run"
    zoo.finetune(recipe(tmp_path, *sets), run)
    (run / f"checkpoints/step-{2 * STEPS:08d}").rename(tmp_path / "gone")
    zoo.finetune(recipe(tmp_path, *sets, "run.epochs=3"), run, resume=True, changes=["run.epochs"])
    client, found = tracked(run)
    for name in ("train/loss", "val/loss", "val/accuracy", "lr"):
        assert list(points(client, found, name)) == [line["step"] for line in metrics(run)]
    assert list(points(client, found, "train/step_loss")) == list(range(1, 3 * STEPS + 1))
    assert found.info.status == "FINISHED"
    assert (found.data.params["run.epochs"], found.data.tags["changed.run.epochs"]) == ("2", "3")


@pytest.mark.slow
def test_a_run_that_is_overwritten_in_one_process_is_another(tmp_path: Path) -> None:
    sets, run = ("export=[]", "run.epochs=1"), tmp_path / "run"
    zoo.finetune(recipe(tmp_path, *sets), run)
    _, first = tracked(run)
    zoo.finetune(recipe(tmp_path, *sets), run, overwrite=True)
    _, second = tracked(run, "mlflow-2.db")
    assert sorted(path.name for path in (run / "mlflow").iterdir()) == ["artefacts", "mlflow-2.db", "run.json"]
    assert second.info.status == "FINISHED"
    assert second.info.run_id != first.info.run_id
