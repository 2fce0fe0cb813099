"""A finished run, opened again: its best weights in a model, its preprocessing and its class names."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from zoo.data import Preprocess, ValBatches, fingerprint
from zoo.data.loader import ends_named
from zoo.errors import RunError
from zoo.recipe import Recipe, load_recipe
from zoo.registry import Registry, kinds
from zoo.registry.contracts import DataSource, InputSpec
from zoo.run.folder import RunFolder
from zoo.run.network import Network, attach_adapter, build_backbone, make_network
from zoo.run.origins import refuse_changes
from zoo.run.steps import place_alone
from zoo.train.checkpoint import Checkpoints, read
from zoo.train.evaluate import evaluate

Weights = Literal["best", "last", "ema"]
"""The raw weights of the best or of the last checkpoint, or the best one's moving average."""


@dataclass(frozen=True)
class Trained:
    """The weights of a finished run, on the CPU in float32 and in eval mode."""

    folder: RunFolder
    recipe: Recipe
    network: Network
    preprocess: Preprocess
    state: dict[str, Any]
    weights: Weights
    checkpoint: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The first head's class names, in the order of its logits."""
        return self.network.classes

    def logits(self, images: Tensor) -> Tensor:
        """Return the first head's logits (B, K) of normalised images (B, 3, H, W)."""
        outputs: dict[str, Tensor] = self.network.model(images)
        return next(iter(outputs.values()))


def load_trained(folder: RunFolder, registry: Registry, weights: Weights | None = None) -> Trained:
    """Return a run's weights in its model: the validated ones, the best checkpoint's, when None.

    RunError: it has no checkpoint, or that is damaged, or has no moving average; or its network or data would be made
    by another version of a plugin.
    """
    recipe = load_recipe(folder.recipe, registry)
    refuse_changes(recipe, folder, (kinds.BACKBONE, kinds.HEAD, kinds.DATA))
    weights = weights or validated(recipe)
    checkpoint = read(_checkpoint(folder, recipe, weights))
    facts = checkpoint.state["facts"]
    spec = InputSpec(**{name: _tuple(value) for name, value in facts["input"].items()})
    network = make_network(recipe, build_backbone(recipe, spec.size), tuple(facts["classes"]))
    adapter = attach_adapter(recipe, network)
    network.model.load_state_dict(checkpoint.tensors["ema" if weights == "ema" else "model"])
    if adapter is not None:
        adapter.merge(network.model)
    network.model.eval()
    return Trained(folder, recipe, network, Preprocess(spec), dict(checkpoint.state), weights, checkpoint.path.name)


def validated(recipe: Recipe) -> Weights:
    """Return which weights a run validates, and calls best."""
    return "ema" if recipe.run.ema else "best"


def _checkpoint(folder: RunFolder, recipe: Recipe, weights: Weights) -> Path:
    if weights == "ema" and not recipe.run.ema:
        raise RunError(f"the run in {str(folder.path)!r} has no moving average", hint='take "best" or "last"')
    checkpoints = Checkpoints(folder.checkpoints, recipe.checkpoint.keep)
    newest = checkpoints.newest() if weights == "last" else None
    found = newest.path if newest else checkpoints.best() if weights != "last" else None
    if found is None:
        hint = f"finish it with `zoo finetune {folder.recipe} --out {folder.path} --resume`"
        raise RunError(f"the run in {str(folder.path)!r} has no evaluated checkpoint yet", hint=hint)
    return found


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def val_batches(trained: Trained, **changes: Any) -> tuple[DataSource, ValBatches]:
    """Return the run's data source and its validation batches, with `changes` to the keys of its `[data]`.

    RunError: its classes or images are no longer those of the run.
    """
    recipe = trained.recipe
    source: DataSource = recipe.data.build(recipe.run.seed)
    then = trained.network.data_classes
    if source.classes != then:
        what = f"the data's classes are no longer the run's: {_shortly(source.classes)} and {_shortly(then)}"
        raise RunError(what, where="[data]", hint="evaluate on data with the classes that the model was trained on")
    _check_images(trained, [fingerprint(source.train), fingerprint(source.val)])
    table = recipe.data.common.model_copy(update=changes)
    return source, ValBatches(source.val, trained.preprocess.spec, table, batch_size=recipe.run.batch_size)


def _check_images(trained: Trained, images: list[str]) -> None:
    """RunError: the images are neither those of the checkpoint nor those that the run went on with."""
    newest = max(trained.folder.checkpoints.glob("step-*/state.json"))
    then = trained.state["facts"]["images"]
    if images not in (then, json.loads(newest.read_text(encoding="utf-8"))["facts"]["images"]):
        what = f"the data's images are no longer the run's: {' and '.join(images)}, then {' and '.join(then)}"
        hint = "put them back, or measure other images with `zoo evaluate BUNDLE FOLDER`"
        raise RunError(what, where="[data]", hint=hint)


def _shortly(classes: Sequence[str]) -> str:
    return ", ".join(classes[:4]) + (f", … ({len(classes)})" if len(classes) > 4 else "")


def evaluate_run(folder: RunFolder, registry: Registry, device: str = "auto") -> dict[str, float]:
    """Return `val/…` of a run's best weights on its validation split, measured in the run's precision."""
    return measure(load_trained(folder, registry), device)


def measure(trained: Trained, device: str = "auto") -> dict[str, float]:
    """Return `val/…` on the run's validation split, measured in the run's precision."""
    strategy = place_alone(trained.recipe, device)
    strategy.place(trained.network.model)
    source, batches = val_batches(trained)
    with closing(batches), ends_named():
        model, normalise = trained.network.model, trained.preprocess.normalise
        expected = len(source.val)
        return evaluate(model, batches, lambda x: model(normalise(x)), strategy, lambda: expected - len(batches.bad))
