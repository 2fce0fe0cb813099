"""Real runs, and their event files read back as TensorBoard reads them."""

import json
import re
from io import BytesIO
from pathlib import Path

import pytest
import zoo
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG, SESSION_START_INFO_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

README = Path(__file__).resolve().parents[1] / "README.md"
TINY = ("backbone.arch=test_resnet", "data.image_size=16", "data.workers=0", "run.batch_size=256", "run.epochs=2")
HERE = ("device.device=cpu", "device.precision=fp32", "device.channels_last=false", "export=[]")
STEPS = 6  # an epoch


def recipe(folder: Path, *sets: str) -> zoo.Recipe:
    """The README's recipe, shortened."""
    (text,) = re.findall(r"```toml\n(format = 1\n.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return zoo.load_recipe(path, sets=[*TINY, *HERE, *sets])


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def points(found: EventAccumulator, tag: str) -> dict[int, float]:
    """{step: value}; a doubled point would be lost, so their number is compared."""
    events = found.Scalars(tag)
    values = {event.step: event.value for event in events}
    assert len(values) == len(events), tag
    return values


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def hyper(found: EventAccumulator, tag: str) -> HParamsPluginData:
    return HParamsPluginData.FromString(found.SummaryMetadata(tag).plugin_data.content)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the README's recipe."""
    folder = tmp_path_factory.mktemp("readme")
    zoo.finetune(recipe(folder), folder / "run")
    return folder / "run"


def test_scalars_are_those_of_the_run(run: Path) -> None:
    found, lines = read(run / "tensorboard"), metrics(run)
    for name in ("train/loss", "val/loss", "val/accuracy", "lr"):
        values = {int(line["step"]): line[name] for line in lines}
        assert points(found, name) == pytest.approx(values, rel=1e-6), name
    assert list(points(found, "train/step_loss")) == [5, 10]
    assert list(points(found, "rate/x1")) == [5, 10]
    best = next(line for line in reversed(lines) if line["best"])
    for name in ("val/loss", "val/accuracy"):
        assert points(found, f"best/{name}") == {2 * STEPS: pytest.approx(best[name], rel=1e-6)}
    assert set(found.Tags()["scalars"]) == {
        *("train/loss", "val/loss", "val/accuracy", "lr", "train/step_loss", "rate/x1"),
        *("best/val/loss", "best/val/accuracy"),
    }


def test_mistakes_are_images_that_decode_and_a_table(run: Path) -> None:
    found = read(run / "tensorboard")
    tags = found.Tags()["images"]
    assert tags == [f"mistakes/{place}" for place in range(1, 9)]
    for tag in tags:
        assert [event.step for event in found.Images(tag)] == [STEPS, 2 * STEPS]
    with Image.open(BytesIO(found.Images(tags[0])[0].encoded_image_string)) as image:
        assert (image.mode, image.size) == ("RGB", (224, 224 + 36))
        colours = image.crop((0, 224, 224, 260)).getcolors(4096)
    assert colours is not None
    assert len(colours) > 2  # the caption is not blank
    (first, _) = found.Tensors("mistakes/text_summary")
    lines = first.tensor_proto.string_val[0].decode().splitlines()
    assert lines[0] == "|  | image | is | taken for | probability |"
    assert len(lines) == 2 + 8
    row = re.fullmatch(r"\| 1 \| digits/\S+ \| (\d) \| (\d) \| (\d+\.\d) % \|", lines[2])
    assert row is not None
    assert row[1] != row[2]
    assert 10 < float(row[3]) <= 100


def test_the_graph_is_that_of_the_network(run: Path) -> None:
    found = read(run / "tensorboard")
    assert found.Tags()["graph"]
    names = [node.name for node in found.Graph().node]
    assert any("backbone" in name for name in names)
    assert any("head" in name for name in names)


def test_hyperparameters_are_the_recipe(run: Path) -> None:
    found = read(run / "tensorboard")
    start = hyper(found, SESSION_START_INFO_TAG).session_start_info.hparams
    assert start["run.epochs"].number_value == 2
    assert start["backbone.arch"].string_value == "test_resnet"
    assert start["callback.0.every"].number_value == 5
    assert start["export"].string_value == "[]"
    experiment = hyper(found, "_hparams_/experiment").experiment
    assert [info.name.tag for info in experiment.metric_infos] == [
        *("val/loss", "val/accuracy", "best/val/loss", "best/val/accuracy")
    ]
    assert hyper(found, SESSION_END_INFO_TAG).session_end_info.status == 1  # STATUS_SUCCESS


@pytest.mark.slow
def test_a_resumed_run_doubles_no_point_and_lacks_none(tmp_path: Path) -> None:
    """A finished run loses its last checkpoint, as if it had been killed: its last epoch is run anew."""
    sets = ("callback.0.every=1", "callback.0.images=1")
    run = tmp_path / "run"
    zoo.finetune(recipe(tmp_path, *sets), run)
    before = read(run / "tensorboard")
    newest = run / f"checkpoints/step-{2 * STEPS:08d}"
    assert newest.exists()
    newest.rename(tmp_path / "gone")
    zoo.finetune(recipe(tmp_path, *sets, "run.epochs=3"), run, resume=True, changes=["run.epochs"])
    found, lines = read(run / "tensorboard"), metrics(run)
    for name in ("train/loss", "val/loss", "val/accuracy", "lr"):
        values = {int(line["step"]): line[name] for line in lines}
        assert points(found, name) == pytest.approx(values, rel=1e-6), name
    losses = points(found, "train/step_loss")
    assert list(losses) == list(range(1, 3 * STEPS + 1))
    first = [losses[step] for step in range(1, STEPS + 1)]
    assert first == [points(before, "train/step_loss")[step] for step in range(1, STEPS + 1)]
    assert [event.step for event in found.Images("mistakes/1")] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert list(points(found, "best/val/loss")) == [3 * STEPS]
    zoo.finetune(recipe(tmp_path, *sets, "run.epochs=3"), run, resume=True)  # there is nothing left to do
    assert list(points(read(run / "tensorboard"), "best/val/loss")) == [3 * STEPS]


def test_what_was_evaluated_before_is_there_when_the_event_file_is_not(tmp_path: Path) -> None:
    sets = ("callback.0.graph=false", "callback.0.images=0", f"callback.0.folder='{tmp_path / 'elsewhere'}'")
    run = tmp_path / "run"
    zoo.finetune(recipe(tmp_path, *sets, "run.epochs=1"), run)
    (file,) = (tmp_path / "elsewhere").iterdir()
    file.unlink()
    zoo.finetune(recipe(tmp_path, *sets), run, resume=True, changes=["run.epochs"])
    found = read(tmp_path / "elsewhere")
    assert list(points(found, "val/loss")) == [STEPS, 2 * STEPS]
    assert found.Tags()["images"] == []
    assert not found.Tags()["graph"]
    assert not (run / "tensorboard").exists()
