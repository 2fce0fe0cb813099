"""A finished run, opened again: its best weights in a model, its preprocessing and its class names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from zoo import __version__
from zoo.data import Preprocess, ValBatches
from zoo.errors import RunError
from zoo.export import export_verified
from zoo.recipe import Chosen, Recipe, load_recipe
from zoo.recipe.schema import NoKeys
from zoo.registry import OwnedPart, Registry, kinds
from zoo.registry.contracts import DataSource, Exportable, InputSpec
from zoo.registry.events import ArtefactWritten
from zoo.run.folder import RunFolder
from zoo.run.logs import tell
from zoo.run.network import Network, attach_adapter, build_backbone, make_network
from zoo.run.steps import place_alone
from zoo.train.checkpoint import Checkpoints, read
from zoo.train.evaluate import evaluate

VERIFIED_IMAGES = 16
"""Validation images on which an artefact is compared with the model."""


@dataclass(frozen=True)
class Trained:
    """The best weights of a run, on the CPU in float32 and in eval mode."""

    folder: RunFolder
    recipe: Recipe
    network: Network
    preprocess: Preprocess
    state: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """The first head's class names, in the order of its logits."""
        return self.network.classes

    def logits(self, images: Tensor) -> Tensor:
        """Return the first head's logits (B, K) of normalised images (B, 3, H, W)."""
        outputs: dict[str, Tensor] = self.network.model(images)
        return next(iter(outputs.values()))


def load_trained(folder: RunFolder, registry: Registry) -> Trained:
    """Return a run's best weights in its model. RunError: it has no checkpoint, or that is damaged."""
    recipe = load_recipe(folder.recipe, registry)
    best = Checkpoints(folder.checkpoints, recipe.checkpoint.keep).best()
    if best is None:
        hint = f"finish it with `zoo finetune {folder.recipe} --out {folder.path} --resume`"
        raise RunError(f"the run in {str(folder.path)!r} has no evaluated checkpoint yet", hint=hint)
    checkpoint = read(best)
    facts = checkpoint.state["facts"]
    spec = InputSpec(**{name: _tuple(value) for name, value in facts["input"].items()})
    network = make_network(recipe, build_backbone(recipe, spec.size), tuple(facts["classes"]))
    adapter = attach_adapter(recipe, network)
    network.model.load_state_dict(checkpoint.tensors["ema" if recipe.run.ema else "model"])
    if adapter is not None:
        adapter.merge(network.model)
    network.model.eval()
    return Trained(folder, recipe, network, Preprocess(spec), {**checkpoint.state, "checkpoint": best.name})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def val_batches(trained: Trained, **changes: Any) -> tuple[DataSource, ValBatches]:
    """Return the run's data source and its validation batches, with `changes` to the keys of its `[data]`.

    RunError: its classes are no longer those of the run.
    """
    recipe = trained.recipe
    source: DataSource = recipe.data.build(recipe.run.seed)
    then = trained.network.data_classes
    if source.classes != then:
        what = f"the data's classes are no longer the run's: {_shortly(source.classes)} and {_shortly(then)}"
        raise RunError(what, where="[data]", hint="evaluate on data with the classes that the model was trained on")
    table = recipe.data.common.model_copy(update=changes)
    return source, ValBatches(source.val, trained.preprocess.spec, table, batch_size=recipe.run.batch_size)


def _shortly(classes: Sequence[str]) -> str:
    return ", ".join(classes[:4]) + (f", … ({len(classes)})" if len(classes) > 4 else "")


def evaluate_run(folder: RunFolder, registry: Registry, device: str = "auto") -> dict[str, float]:
    """Return `val/…` of a run's best weights on its validation split, measured in the run's precision."""
    trained = load_trained(folder, registry)
    strategy = place_alone(trained.recipe, device)
    strategy.place(trained.network.model)
    source, batches = val_batches(trained)
    try:
        model, normalise = trained.network.model, trained.preprocess.normalise
        expected = len(source.val)
        return evaluate(model, batches, lambda x: model(normalise(x)), strategy, lambda: expected - len(batches.bad))
    finally:
        batches.close()


def export_run(
    folder: RunFolder, registry: Registry, formats: Sequence[str] = (), out: Path | None = None
) -> tuple[ArtefactWritten, ...]:
    """Write a run's artefacts, each read back and compared with the model on validation images.

    `formats` chooses among the recipe's exporters (all when empty); `out` is the folder for them (the run's when None).
    Each has a folder of its name there; a second one of that name gets `NAME-2`.
    """
    trained = load_trained(folder, registry)
    chosen = _chosen_exports(trained.recipe, registry, formats)
    if not chosen:
        return ()
    model = exportable(trained)
    images = _some_images(trained)
    paths = [(out or folder.export) / name for name in _distinct([export.part.name for export in chosen])]
    return tuple(_export(*pair, model, trained.logits, images) for pair in zip(chosen, paths, strict=True))


def _distinct(names: Sequence[str]) -> list[str]:
    earlier = [names[:index].count(name) for index, name in enumerate(names)]
    return [f"{name}-{count + 1}" if count else name for name, count in zip(names, earlier, strict=True)]


def _chosen_exports(recipe: Recipe, registry: Registry, formats: Sequence[str]) -> list[Chosen[Any]]:
    """The recipe's exporters of those names; one that it does not have, with its defaults."""
    if not formats:
        return list(recipe.exports)
    named = {name: [export for export in recipe.exports if export.part.name == name] for name in formats}
    return [
        export
        for name, found in named.items()
        for export in found or [_with_defaults(registry.find(kinds.EXPORT, name))]
    ]


def _with_defaults(owned: OwnedPart) -> Chosen[Any]:
    try:
        return Chosen(owned.part, owned.owner, owned.part.options(), NoKeys())
    except ValidationError as error:
        hint = f"put it into a [[export]] of the run's recipe: {error}"
        raise RunError(f"the exporter {owned.part.name!r} has options that must be set", hint=hint) from error


def _export(
    chosen: Chosen[Any], path: Path, model: Exportable, eager: Callable[[Tensor], Tensor], images: Tensor
) -> ArtefactWritten:
    written = export_verified(chosen.build(), model, eager, images, path)
    tell("artefact", f"{written.files[0]} (read back: logits differ by {written.difference:.1g})")
    return written


def exportable(trained: Trained) -> Exportable:
    """Return the run's best weights under native names, with where they come from."""
    progress = trained.state["progress"]
    metrics = next(found["metrics"] for found in reversed(progress["history"]) if found["best"])
    facts = {
        "weights": "ema" if trained.recipe.run.ema else "raw",
        "checkpoint": trained.state["checkpoint"],
        "metrics": metrics,
        "base_weights": trained.state["facts"]["base_weights"],
        "recipe": trained.recipe.to_table(),
        "zoo": __version__,
    }
    ledger = trained.folder.read_json("load.json")
    return replace(trained.network.exportable(trained.preprocess.spec), facts=facts, ledger=ledger)


def _some_images(trained: Trained) -> Tensor:
    _, batches = val_batches(trained, workers=0)  # one batch: done before processes would have started
    try:
        found = [batch.images for batch in islice(iter(batches), 1)]
    finally:
        batches.close()
    return trained.preprocess.normalise(torch.cat(found)[:VERIFIED_IMAGES])
