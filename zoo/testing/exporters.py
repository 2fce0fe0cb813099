"""Checks of exporters. They write timm's `test_resnet` with three classes."""

import contextlib
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.backbones.timm import build as timm
from zoo.data import Preprocess
from zoo.registry.builtin.backbones import TimmOptions
from zoo.registry.contracts import Described, Exportable, Exporter, InputSpec
from zoo.testing.kit import NotTriedError, Trial, check, expect
from zoo.testing.network import CLASSES, alike, apart, changed, draw, make, perturbed

SPEC = InputSpec(size=(32, 32), crop_pct=1.0)


def model(seed: int = 0) -> Exportable:
    """Return a model to write: native names, its base weights, calibration images."""
    native = make(lambda: timm(TimmOptions(arch="test_resnet"), SPEC.size)).native
    network = make(lambda: native.build(len(CLASSES)), seed)
    base = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = perturbed(network).state_dict()
    return Exportable(
        native=native,
        input=SPEC,
        classes=CLASSES,
        base=lambda: base,
        state=state,
        calibration=lambda count: draw(count, 3, *SPEC.size, seed=7),
    )


def described(model: Exportable) -> Described:
    """Return what whoever opens an artefact knows of the model."""
    return Described(**{field.name: getattr(model, field.name) for field in fields(Described)})


def eager(model: Exportable, takes: str) -> Callable[[Tensor], Tensor]:
    """Return the model as trained, from what an artefact takes."""
    network = make(lambda: model.native.build(len(CLASSES)))
    network.load_state_dict(model.state)
    network.eval()
    if takes == "normalised":
        return network
    preprocess = Preprocess(SPEC)
    return lambda images: network(preprocess.normalise(images))


def given(takes: str) -> Tensor:
    """Return images of what an artefact takes: normalised ones, or decoded ones of the network's own size."""
    images = draw(3, 3, *SPEC.size, seed=8)
    return images if takes == "normalised" else (images * 40 + 128).clamp(0, 255).to(torch.uint8)


def write(trial: Trial, name: str = "written", seed: int = 0) -> tuple[Exporter, Exportable, Path, tuple[Path, ...]]:
    """Write a model into an empty folder; return exporter, model, folder and files."""
    exporter: Exporter = trial.build()
    exported = model(seed)
    exporter.check(exported)
    folder = trial.folder / name
    folder.mkdir(parents=True)
    return exporter, exported, folder, tuple(exporter.write(exported, folder))


@check("the bundle reads these to judge an artefact, and says them to whoever deploys it")
def contract(trial: Trial) -> None:
    """A tolerance from 0 to 1, a permitted drop from 0 to 1 or None, what the artefact takes, and its runtime."""
    exporter: Any = trial.build()
    expect(0 <= exporter.tolerance < 1, "a tolerance from 0, below 1", exporter.tolerance)
    drop = exporter.max_drop
    expect(drop is None or 0 <= drop <= 1, "a permitted drop from 0 to 1, or None", drop)
    expect(exporter.takes in ("normalised", "decoded"), '"normalised" or "decoded"', exporter.takes)
    runtime = exporter.runtime(model().native)
    named = isinstance(runtime, str) and re.fullmatch(r"[a-z_][a-z0-9_]*", runtime) is not None
    expect(named, "the package that runs the artefact, as it is imported", repr(runtime))


@check("the bundle holds what `write` returns; what lies elsewhere is lost")
def files(trial: Trial) -> None:
    """Files that exist below the folder, all that it wrote, the main one first."""
    here = trial.folder / "here"
    here.mkdir()
    with contextlib.chdir(here):
        _, _, folder, found = write(trial)
    expect(bool(found), "at least one file", found)
    missing = [str(path) for path in found if not path.is_file() or not path.is_relative_to(folder)]
    expect(not missing, "files that exist in the folder", missing)
    others = {path for path in folder.rglob("*") if path.is_file()} - set(found)
    expect(not others, "every file that was written", f"not returned: {sorted(path.name for path in others)}")
    strewn = sorted(path.name for path in here.iterdir())
    expect(not strewn, "nothing written elsewhere", strewn)


@check("an artefact is published by its SHA-256: what is exported again must be the same")
def same_bytes(trial: Trial) -> None:
    """The same model gives the same bytes, another model other ones."""
    _, _, _, first = write(trial, "first")
    _, _, _, again = write(trial, "again")
    _, _, _, other = write(trial, "other", seed=1)
    expect(_bytes(first) == _bytes(again), "the same bytes for the same model", "others")
    expect(_bytes(first) != _bytes(other), "other bytes for another model", "the same")


def _bytes(files: tuple[Path, ...]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files}


@check("a deployed model must say what the trained one says")
def reads_back(trial: Trial) -> None:
    """Read elsewhere, by what is known of the model, it gives the model's logits within the tolerance."""
    exporter, exported, folder, _ = write(trial)
    moved = trial.folder / "moved"
    shutil.move(folder, moved)
    images = given(exporter.takes)
    with torch.no_grad():
        found = exporter.read(described(exported), moved)(images)
        expected = eager(exported, exporter.takes)(images)
    expect(alike(found, expected, exporter.tolerance), f"the same within {exporter.tolerance}", apart(found, expected))


@check("what is written next must be the trained model still")
def model_untouched(trial: Trial) -> None:
    """Writing leaves the model's tensors as they were."""
    exporter, exported = trial.build(), model()
    before: Mapping[str, Tensor] = {name: tensor.clone() for name, tensor in exported.state.items()}
    (trial.folder / "written").mkdir()
    exporter.write(exported, trial.folder / "written")
    moved = changed(before, dict(exported.state))
    expect(not moved, "the tensors as they were", moved[:3])


@check("whoever deploys the model has no zoo, and copies this code")
def code(trial: Trial) -> None:
    """Code that runs in the artefact's folder, imports no zoo, and binds `network` to the same function."""
    exporter, exported, folder, _ = write(trial)
    text = exporter.code(described(exported))
    if not text:
        raise NotTriedError("it takes zoo to put the artefact together")
    expect("zoo" not in text.replace("model_zoo", ""), "code without zoo", text)
    names: dict[str, Any] = {}
    images = given(exporter.takes)
    with contextlib.chdir(folder), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the artefact's library thinks of its own calls
        exec(text, names)
        expect(callable(names.get("network")), "a function `network`", sorted(set(names) - {"__builtins__"}))
        found = torch.as_tensor(names["network"](images))
        expected = eager(exported, exporter.takes)(images)
    expect(alike(found, expected, max(exporter.tolerance, 1e-5)), "the model's logits", apart(found, expected))


CHECKS = (contract, files, same_bytes, reads_back, model_untouched, code)
