"""The run source: checkpoints of a real, tiny run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.runs.conftest import photos, recipe, zoo
from zoo.errors import WeightsError
from zoo.recipe import load_recipe
from zoo.registry import Registry
from zoo.registry.builtin.weights import RunOptions
from zoo.registry.contracts import Native, WeightsRequest
from zoo.run import steps
from zoo.run.folder import RunFolder
from zoo.run.network import input_spec, make_network
from zoo.run.trained import load_trained
from zoo.weights import Target, load_state
from zoo.weights.run import build

__all__ = ["photos", "recipe", "zoo"]  # fixtures

KEEP = 'weights={use="run",run="runs/tiny",head="keep"}'
BY_NAME = 'weights={use="run",run="runs/tiny",head="by-class-name"}'
RAW = 'weights={use="run",run="runs/averaged",head="keep",ema=false}'
REQUEST = WeightsRequest(Native("timm", "test_resnet", "fc", lambda classes: nn.Identity(), ""), (), Path("unused"))


@pytest.fixture
def run(zoo: Any, recipe: Path, tmp_path: Path) -> Path:
    """A finished run, in runs/tiny."""
    status, _, err = zoo("finetune", recipe)
    assert (status, err) == (0, "")
    return tmp_path / "runs" / "tiny"


@pytest.fixture
def averaged(zoo: Any, recipe: Path, tmp_path: Path) -> Path:
    """A finished run with a moving average, in runs/averaged."""
    sets = ("--set", "run.ema=0.5", "--set", "export=[{use='safetensors', weights='ema'}]")
    status, _, err = zoo("finetune", recipe, "--out", "runs/averaged", *sets)
    assert (status, err) == (0, "")
    return tmp_path / "runs" / "averaged"


def _refusal(options: RunOptions) -> str:
    with pytest.raises(WeightsError) as caught:
        build(options, REQUEST)
    return str(caught.value)


def _best(run: Path) -> Path:
    return run / "checkpoints" / json.loads((run / "checkpoints" / "index.json").read_text())["best"]


def test_a_checkpoint_is_described(run: Path) -> None:
    best = _best(run)
    found = build(RunOptions(run=run), REQUEST)
    assert found.path == best / "model.safetensors"
    assert found.origin == f"run {run}, best checkpoint {best.name} (raw)"
    assert found.sha256 == json.loads((best / "state.json").read_text())["sha256"]["model.safetensors"]
    assert found.architecture == "timm/test_resnet"
    assert found.classes == ("above", "below")
    assert found.input is not None
    assert found.input.size == (32, 32)
    assert found.licence is None
    last = build(RunOptions(run=run, checkpoint="last"), REQUEST)
    assert last.path == run / "checkpoints" / "step-00000008" / "model.safetensors"


@pytest.mark.parametrize("setting", [KEEP, BY_NAME])
def test_a_model_that_starts_from_a_run_has_its_logits(
    setting: str, run: Path, recipe: Path, registry: Registry
) -> None:
    chosen = load_recipe(recipe, registry, [setting])
    backbone, file = steps.fetch(chosen)
    network = make_network(chosen, backbone, ("above", "below"))
    assert file is not None
    ledger = load_state(network.target(), file, chosen.weights.common)
    assert ledger.coverage == 1.0
    trained = load_trained(RunFolder(run), registry)
    assert input_spec(chosen, backbone, file) == trained.preprocess.spec
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(network.model.eval()(images)["main"], trained.logits(images))


def test_rows_go_to_the_classes_they_are_of(run: Path, recipe: Path, registry: Registry) -> None:
    chosen = load_recipe(recipe, registry, [BY_NAME])
    backbone, file = steps.fetch(chosen)
    network = make_network(chosen, backbone, ("aside", "below", "above"))
    assert file is not None
    ledger = load_state(network.target(), file, chosen.weights.common)
    assert ledger.initialised_classes == ("aside",)
    images = torch.randn(4, 3, 32, 32)
    logits = load_trained(RunFolder(run), registry).logits(images)
    assert torch.allclose(network.model.eval()(images)["main"][:, [2, 1]], logits, atol=1e-6)


@pytest.mark.parametrize("setting", [KEEP, BY_NAME])
def test_a_run_that_only_starts_from_another_validates_as_it_did(
    setting: str, zoo: Any, run: Path, recipe: Path, tmp_path: Path
) -> None:
    before = json.loads(zoo("evaluate", run, "--json")[1])
    settings = ["--set", setting, "--set", "run.epochs=1", "--set", "optim.lr=1e-12", "--set", 'freeze={use="head"}']
    status, _, err = zoo("finetune", recipe, "--out", "runs/second", *settings)
    assert (status, err) == (0, "")
    after = json.loads(zoo("evaluate", "runs/second", "--json")[1])
    assert after["val/accuracy"] == before["val/accuracy"]
    assert after["val/loss"] == pytest.approx(before["val/loss"], rel=1e-5)
    ledger = json.loads((tmp_path / "runs" / "second" / "load.json").read_text())
    assert ledger["coverage"] == 1.0
    assert ledger["origin"].startswith("run runs/tiny, best checkpoint step-")


def test_the_average_and_the_raw_weights_are_never_confused(
    zoo: Any, averaged: Path, recipe: Path, registry: Registry
) -> None:
    best = _best(averaged)
    assert _refusal(RunOptions(run=averaged)) == (
        f"{best.name} has the raw weights and their moving average: say which\n"
        "  where: [weights] ema\n"
        "  mend:  ema = true takes the average, which is what was validated; ema = false the raw weights"
    )
    assert build(RunOptions(run=averaged, ema=True), REQUEST).path == best / "ema.safetensors"
    assert build(RunOptions(run=averaged, ema=True), REQUEST).origin.endswith(f"{best.name} (ema)")
    assert build(RunOptions(run=averaged, ema=False), REQUEST).path == best / "model.safetensors"
    chosen = load_recipe(recipe, registry, [RAW])
    backbone, file = steps.fetch(chosen)
    network = make_network(chosen, backbone, ("above", "below"))
    assert file is not None
    load_state(network.target(), file, chosen.weights.common)
    raw = load_file(best / "model.safetensors")
    state = network.model.state_dict()
    assert all(torch.equal(value, raw[name]) for name, value in state.items())


def test_a_run_without_an_average_has_none_to_take(run: Path) -> None:
    assert _refusal(RunOptions(run=run, ema=True)) == (
        f"{_best(run).name} has no moving average: the run was made with ema = 0\n"
        "  where: [weights] ema\n"
        "  mend:  leave `ema` out"
    )


def test_other_heads_are_dropped_or_refused_never_mixed_up(
    zoo: Any, recipe: Path, registry: Registry, tmp_path: Path
) -> None:
    heads = 'head=[{use="linear",name="first"},{use="linear",name="second"}]'
    common = ["--set", heads, "--set", "run.best_by=val/first/accuracy", "--set", "run.epochs=1"]
    status, _, err = zoo("finetune", recipe, "--out", "runs/tiny", "--set", "export=[]", *common)
    assert (status, err) == (0, "")
    chosen = load_recipe(recipe, registry, [KEEP.replace("keep", "reset")])
    backbone, file = steps.fetch(chosen)
    assert file is not None
    network = make_network(chosen, backbone, ("above", "below"))
    ledger = load_state(network.target(), file, chosen.weights.common)
    dropped = [entry.source for entry in ledger.entries if entry.status == "dropped"]
    assert sorted(filter(None, dropped)) == [
        "heads.first.linear.bias", "heads.first.linear.weight",
        "heads.second.linear.bias", "heads.second.linear.weight",
    ]  # fmt: skip
    kept = chosen.weights.common.model_copy(update={"head": "keep"})
    with pytest.raises(WeightsError) as caught:
        load_state(network.target(), file, kept)
    assert "not in the model: heads.second.linear.bias, heads.second.linear.weight of the file" in str(caught.value)


def test_a_backbone_without_a_native_classifier_drops_the_heads(run: Path) -> None:
    request = replace(REQUEST, native=replace(REQUEST.native, classifier=None))
    assert build(RunOptions(run=run), request).rename == ((r"^backbone\.", ""),)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert _refusal(RunOptions(run=tmp_path)) == (
        f"{str(tmp_path)!r} is not a run's folder: it has no recipe.toml\n"
        "  mend:  name a folder that `zoo finetune` made, below `runs/` if not told otherwise"
    )
    (tmp_path / "recipe.toml").write_text("[")
    assert _refusal(RunOptions(run=tmp_path)).startswith("the run's recipe cannot be read: ")


def test_a_run_without_checkpoints_is_refused(run: Path) -> None:
    folder = run / "checkpoints"
    (folder / "index.json").write_text("{}")
    assert _refusal(RunOptions(run=run)) == (
        f"index.json cannot be read: KeyError: 'best'\n  where: {folder / 'index.json'}\n"
        '  mend:  use checkpoint = "last"'
    )
    (folder / "index.json").unlink()
    assert _refusal(RunOptions(run=run)) == (
        f'the run has no best checkpoint yet\n  where: {folder}\n  mend:  checkpoint = "last" takes the newest one'
    )
    shutil.rmtree(folder)
    assert _refusal(RunOptions(run=run, checkpoint="last")) == (
        f"the run has no last checkpoint yet\n  where: {folder}\n  mend:  let it train to its first one"
    )


def test_a_damaged_checkpoint_is_refused(run: Path, recipe: Path, registry: Registry) -> None:
    best = _best(run)
    model = bytearray((best / "model.safetensors").read_bytes())
    model[-1] ^= 1
    (best / "model.safetensors").write_bytes(model)
    file = build(RunOptions(run=run), REQUEST)
    with pytest.raises(WeightsError, match="model.safetensors has sha256 "):
        load_state(Target({}), file, load_recipe(recipe, registry, [KEEP]).weights.common)
    state = (best / "state.json").read_text()
    (best / "state.json").write_text(state.replace("above", "aside"))
    assert _refusal(RunOptions(run=run)) == (
        f"the checkpoint {best.name} is damaged: state.json: other bytes\n"
        f"  where: {best / 'state.json'}\n"
        "  mend:  use another checkpoint"
    )
