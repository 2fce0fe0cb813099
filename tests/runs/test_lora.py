"""A run with low-rank adapters: everything that leaves it has native names and the weights that were trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from zoo.data.images import open_image, to_rgb
from zoo.recipe import load_recipe
from zoo.registry import Registry
from zoo.run import steps
from zoo.run.folder import RunFolder
from zoo.run.network import make_network
from zoo.run.trained import load_trained
from zoo.weights import load_state

VIT = ("--set", "backbone.arch=test_vit")
LORA = (*VIT, "--set", 'freeze={use="lora",rank=2,alpha=8.0}')
AVERAGED = ("--set", "run.ema=0.5", "--set", "export=[{use='safetensors',weights='ema'}]")


@pytest.fixture
def run(zoo: Any, recipe: Path, tmp_path: Path) -> tuple[Path, str]:
    """A finished run with a moving average, and what it printed."""
    status, out, err = zoo("finetune", recipe, *LORA, *AVERAGED)
    assert (status, err) == (0, "")
    return tmp_path / "runs" / "tiny", out


def test_what_leaves_a_run_is_merged(zoo: Any, run: tuple[Path, str], photos: Path, registry: Registry) -> None:
    folder, out = run
    assert "freeze       lora: " in out
    assert json.loads((folder / "audit.json").read_text())["held"]
    plain = timm.create_model("test_vit", num_classes=2, img_size=32).eval()
    exported = load_file(folder / "export/model.safetensors")
    plain.load_state_dict(exported, strict=True)
    trained = load_trained(RunFolder(folder), registry)
    assert list(trained.network.native_state()) == list(plain.state_dict())
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain(images), trained.logits(images))
    step = folder / "checkpoints" / json.loads((folder / "checkpoints/index.json").read_text())["best"]
    kept = load_file(step / "ema.safetensors")
    name = "blocks.0.attn.qkv"
    start = kept[f"backbone.{name}.parametrizations.weight.original"]
    assert not torch.equal(exported[f"{name}.weight"], start)
    assert torch.equal(exported["blocks.0.norm1.weight"], kept["backbone.blocks.0.norm1.weight"])
    status, answers, _ = zoo("predict", folder, photos / "val/above/00.png", "--top", "2", "--json")
    assert status == 0
    shown = json.loads(answers)[0]["classes"]
    shaped = trained.preprocess.shape(to_rgb(open_image(photos / "val/above/00.png")))
    with torch.no_grad():
        shares = plain(trained.preprocess.normalise(shaped[None])).softmax(-1)[0].tolist()
    assert [shown[name] for name in trained.classes] == pytest.approx(shares, abs=1e-6)


def test_evaluation_gives_what_was_validated(zoo: Any, run: tuple[Path, str]) -> None:
    folder, _ = run
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = [line for line in lines if line["best"]][-1]
    found = json.loads(zoo("evaluate", folder, "--json")[1])
    assert found["val/accuracy"] == best["val/accuracy"]
    assert found["val/loss"] == pytest.approx(best["val/loss"], rel=1e-5)


@pytest.mark.parametrize("averaged", ["true", "false"])
def test_another_run_starts_from_it(
    averaged: str, run: tuple[Path, str], recipe: Path, registry: Registry, tmp_path: Path
) -> None:
    folder, _ = run
    weights = f'weights={{use="run",run="{folder}",head="keep",ema={averaged}}}'
    chosen = load_recipe(recipe, registry, [VIT[1], weights])
    backbone, file = steps.fetch(chosen)
    network = make_network(chosen, backbone, ("above", "below"))
    assert file is not None
    ledger = load_state(network.target(), file, chosen.weights.common)
    assert ledger.coverage == 1.0
    images = torch.randn(4, 3, 32, 32)
    same = torch.equal(network.model.eval()(images)["main"], load_trained(RunFolder(folder), registry).logits(images))
    assert same == (averaged == "true")


def test_a_run_on_top_of_a_run(zoo: Any, run: tuple[Path, str], recipe: Path, tmp_path: Path) -> None:
    weights = 'weights={use="run",run="runs/tiny",head="keep",ema=true}'
    status, _, err = zoo("finetune", recipe, *LORA, "--set", weights, "--set", "run.epochs=1", "--out", "runs/second")
    assert (status, err) == (0, "")
    exports = [tmp_path / "runs" / name / "export/model.safetensors" for name in ("tiny", "second")]
    assert load_file(exports[0]).keys() == load_file(exports[1]).keys()
    assert json.loads((tmp_path / "runs/second/load.json").read_text())["coverage"] == 1.0


def test_a_resume_goes_on_to_the_same_bits(zoo: Any, run: tuple[Path, str], recipe: Path, tmp_path: Path) -> None:
    folder, _ = run
    settings = (*LORA, *AVERAGED)
    assert zoo("finetune", recipe, *settings, "--out", "again")[0] == 0
    newest = max((tmp_path / "again/checkpoints").glob("step-*"))
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    assert zoo("finetune", tmp_path / "again/recipe.toml", "--out", "again", "--resume")[0] == 0
    exports = [load_file(path / "export/model.safetensors") for path in (folder, tmp_path / "again")]
    assert all(torch.equal(exports[0][name], exports[1][name]) for name in exports[0])


def test_a_backbone_without_such_layers_is_refused_before_anything_is_written(
    zoo: Any, recipe: Path, tmp_path: Path
) -> None:
    status, _, err = zoo("finetune", recipe, "--set", 'freeze={use="lora"}')
    assert status == 2
    assert err == (
        "error: the backbone has no linear or attention layer to adapt\n  where: [freeze]\n"
        '  mend:  use convolutions = true, "norm-only", "bitfit" or "stages"\n'
    )
    assert not (tmp_path / "runs").exists()
