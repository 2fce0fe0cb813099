"""The callback by itself: what it writes of single events, and what it leaves alone."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import Tensor, nn
from zoo.testing import check_callback

from zoo_tensorboard.callback import TensorBoard, build
from zoo_tensorboard.hyper import flattened
from zoo_tensorboard.mistakes import captioned, table
from zoo_tensorboard.plugin import PARTS, TensorBoardOptions
from zoo_tensorboard.written import read_written


class Untraceable(nn.Module):
    """What a trace cannot return."""

    def forward(self, images: Tensor) -> Any:
        return {"logits": images.mean().item()}


def started(folder: Path, network: Any = nn.Flatten, **fields: Any) -> zoo.RunStarted:
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
        "recipe": {"run": {"name": "tiny"}},
        "classes": ("cat", "dog | wolf"),
        "input": zoo.InputSpec(size=(8, 8)),
        "network": network,
    }
    return zoo.RunStarted(**{**given, **fields})


def begun(folder: Path, **fields: Any) -> TensorBoard:
    callback = build(TensorBoardOptions(every=1), folder)
    callback.run_started(started(folder, **fields))
    return callback


def step(number: int) -> zoo.StepEnded:
    return zoo.StepEnded(number, 0, 8, 0.1, 2.0, {"x1": 0.1, "x0.1": 0.01})


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()


def mistake(image: Any = lambda: Image.new("RGB", (10, 20), "red")) -> zoo.Mistake:
    return zoo.Mistake("photos/a|b.png", 1, 0, 0.987, image)


@pytest.mark.parametrize(
    ("reason", "status"), [("failed: no space left", 2), ("interrupted", None), ("stopped: enough", 1)]
)
def test_however_a_run_ends_its_points_are_there(tmp_path: Path, reason: str, status: int | None) -> None:
    callback = begun(tmp_path)
    callback.step_ended(step(1))
    callback.run_ended(zoo.RunEnded(reason, 1.0, None))
    found = read(tmp_path)
    assert [(event.step, event.value) for event in found.Scalars("train/step_loss")] == [(1, 2.0)]
    assert [event.value for event in found.Scalars("rate/x0.1")] == [pytest.approx(0.01)]
    if status is None:
        with pytest.raises(KeyError):
            found.SummaryMetadata(SESSION_END_INFO_TAG)
    else:
        content = found.SummaryMetadata(SESSION_END_INFO_TAG).plugin_data.content
        assert HParamsPluginData.FromString(content).session_end_info.status == status


@pytest.mark.slow
def test_it_is_what_a_callback_promises() -> None:
    check_callback(PARTS[0], {"every": 1})


def test_a_run_that_did_not_start_leaves_nothing(tmp_path: Path) -> None:
    build(TensorBoardOptions(), tmp_path).run_ended(zoo.RunEnded("failed: no", 0.0, None))
    assert list(tmp_path.iterdir()) == []


def test_what_lies_beyond_the_checkpoint_is_void(tmp_path: Path) -> None:
    """Killed after step 4, with a checkpoint at step 2: steps 3 and 4 are taken again."""
    callback = begun(tmp_path)
    for number in (1, 2, 3, 4):
        callback.step_ended(step(number))
    callback.run_ended(zoo.RunEnded("interrupted", 1.0, None))
    callback = begun(tmp_path, step=2)
    callback.step_ended(step(3))
    callback.run_ended(zoo.RunEnded("interrupted", 1.0, None))
    assert [event.step for event in read(tmp_path).Scalars("train/step_loss")] == [1, 2, 3]
    callback = begun(tmp_path, step=3)
    callback.step_ended(step(4))
    callback.run_ended(zoo.RunEnded("finished", 1.0, None))
    found = read(tmp_path)
    assert [event.step for event in found.Scalars("train/step_loss")] == [1, 2, 3, 4]
    names = [path.name for path in (tmp_path / "tensorboard").iterdir()]
    assert len({name.split(".")[3] for name in names}) == len(names) == 3  # a second each: they are read in this order


def test_a_file_that_was_cut_short_is_read_so_far(tmp_path: Path) -> None:
    callback = begun(tmp_path)
    for number in (1, 2):
        callback.step_ended(step(number))
    callback.run_ended(zoo.RunEnded("interrupted", 1.0, None))
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-7])  # of the last rate
    written = read_written(tmp_path / "tensorboard", 2)
    assert written.steps["train/step_loss"] == {1, 2}
    assert (written.steps["rate/x1"], written.steps["rate/x0.1"]) == ({1, 2}, {1})
    assert written.graph
    assert written.hyperparameters


def test_a_network_that_cannot_be_traced_has_no_graph(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = begun(tmp_path, network=Untraceable)
    callback.run_ended(zoo.RunEnded("finished", 1.0, None))
    assert not read(tmp_path).Tags()["graph"]
    assert [record.message.partition(": ")[0] for record in caplog.records] == ["no graph for TensorBoard"]
    assert capsys.readouterr().out == ""


def test_a_graph_leaves_chance_and_warnings_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, filters = torch.get_rng_state(), list(warnings.filters)
    callback = begun(tmp_path, network=lambda: nn.Sequential(nn.Dropout(0.5), nn.Flatten()))
    callback.run_ended(zoo.RunEnded("finished", 1.0, None))
    assert torch.equal(torch.get_rng_state(), before)
    assert warnings.filters == filters
    assert read(tmp_path).Tags()["graph"]
    assert capsys.readouterr() == ("", "")


def test_a_caption_stands_below_its_image() -> None:
    page = captioned(mistake(), ("cat", "dog"))
    assert page is not None
    assert page.shape == (224 + 36, 224, 3)
    assert page[100, 112].tolist() == [255, 0, 0]
    assert page[100, 10].tolist() == [255, 255, 255]  # the image is narrow
    assert page[224:, :].min() < 100


def test_an_image_that_is_gone_is_left_out_and_named(tmp_path: Path) -> None:
    def gone() -> Image.Image:
        raise FileNotFoundError("gone")

    callback = begun(tmp_path)
    callback.mistakes_found(zoo.MistakesFound(0, 3, (mistake(), mistake(gone))))
    callback.run_ended(zoo.RunEnded("finished", 1.0, None))
    found = read(tmp_path)
    assert found.Tags()["images"] == ["mistakes/1"]
    assert found.Tensors("mistakes/text_summary")[0].tensor_proto.string_val[0].decode().splitlines()[2:] == [
        "| 1 | photos/a\\|b.png | dog \\| wolf | cat | 98.7 % |",
        "| 2 | photos/a\\|b.png | dog \\| wolf | cat | 98.7 % |",
    ]


def test_no_mistakes_are_no_table(tmp_path: Path) -> None:
    callback = begun(tmp_path)
    callback.mistakes_found(zoo.MistakesFound(0, 3, ()))
    callback.run_ended(zoo.RunEnded("finished", 1.0, None))
    assert "mistakes/text_summary" not in read(tmp_path).Tags()["tensors"]
    assert table((), ()).count("\n") == 1


def test_recipes_become_flat() -> None:
    recipe = {"a": {"b": True, "c": [1, "x"], "d": []}, "e": [{"f": 1.5}, {"f": "é"}], "g": [["é", 2]]}
    flat = {"a.b": True, "a.c": '[1, "x"]', "a.d": "[]", "e.0.f": 1.5, "e.1.f": "é", "g": '[["é", 2]]'}
    assert dict(flattened(recipe)) == flat


def test_zoo_lists_it_and_importing_it_is_light() -> None:
    command = [str(Path(sys.executable).with_name("zoo")), "list", "callback"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split("  ")[0] for line in listed.stdout.splitlines() if "zoo-tensorboard" in line] == ["tensorboard"]
    heavy = "torch", "tensorboard", "numpy", "PIL"
    script = f"import sys, zoo_tensorboard.plugin; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
