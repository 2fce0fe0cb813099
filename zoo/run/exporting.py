"""Export a finished run: its weights, in every format that is asked for, as one bundle."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from zoo.bundle.golden import make_golden
from zoo.bundle.manifest import Part
from zoo.bundle.writing import Facts, Format, Reference, write_bundle
from zoo.data import Preprocess
from zoo.errors import DataError, RunError
from zoo.recipe import Chosen, Recipe, load_recipe
from zoo.recipe.schema import ExportTable
from zoo.registry import OwnedPart, Registry, kinds
from zoo.registry.contracts import DataSource, Exportable, Split
from zoo.registry.events import ArtefactWritten
from zoo.run.base import base_state
from zoo.run.folder import RunFolder
from zoo.run.logs import tell
from zoo.run.trained import Trained, Weights, load_trained, measure, val_batches, validated


def export_run(
    folder: RunFolder,
    registry: Registry,
    formats: Sequence[str] = (),
    out: Path | None = None,
    weights: Weights | None = None,
) -> tuple[ArtefactWritten, ...]:
    """Write a run's weights as one bundle, each format read back and compared with the model on validation images.

    `formats` chooses among the recipe's exporters (all when empty). `out` is the bundle's folder, or zip where it ends
    in .zip (the run's own folder when None); what is there is replaced. ZooError: see `write_bundle`. RunError: the run
    has two sets of weights, and neither `weights` nor the recipe says which.
    """
    recipe = load_recipe(folder.recipe, registry)
    chosen = _chosen_exports(recipe, registry, formats)
    if not chosen:
        return ()
    trained = load_trained(folder, registry, weights or _asked(recipe, chosen))
    source, batches = val_batches(trained)
    batches.close()
    names = trained.network.classes
    images = make_golden(source.val, [names[place] for place in _places(trained)], trained.preprocess.spec)
    made = [Format(export.part.name, _options(export), export.build()) for export in chosen]
    written = write_bundle(
        out or folder.export,
        exportable(trained, source),
        made,
        Reference(trained.logits, images, lambda network: accuracy(trained, source.val, network)),
        _facts(trained),
    )
    for artefact in written:
        tell("artefact", _line(artefact))
    return written


def _line(written: ArtefactWritten) -> str:
    return f"{written.files[0]} ({written.exporter}, read back: logits differ by {written.difference:.1g})"


def _asked(recipe: Recipe, chosen: Sequence[Chosen[ExportTable]]) -> Weights:
    """Which weights the recipe's [[export]] names. RunError: none, and there are two sets."""
    named = [export.common.weights for export in (*recipe.exports, *chosen) if export.common.weights]
    if named:
        return named[0]
    if recipe.run.ema:
        hint = "--weights ema takes the average, which was validated; best and last the raw weights"
        raise RunError("the run has raw weights and their moving average: say which", hint=hint)
    return validated(recipe)


def _places(trained: Trained) -> list[int]:
    """For each of the data's classes the place of what the first head calls it."""
    target = next(iter(trained.network.targets.values()))
    return list(target.of) if target.of is not None else list(range(len(target.classes)))


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
        return Chosen(owned.part, owned.owner, owned.part.options(), ExportTable())
    except ValidationError as error:
        hint = f"put it into a [[export]] of the run's recipe: {error}"
        raise RunError(f"the exporter {owned.part.name!r} has options that must be set", hint=hint) from error


def _options(chosen: Chosen[Any]) -> dict[str, Any]:
    options: dict[str, Any] = chosen.options.model_dump(mode="json", exclude_none=True)
    return options


def exportable(trained: Trained, source: DataSource) -> Exportable:
    """Return the run's weights under native names, with what exporters may ask for beside them."""
    network, preprocess = trained.network, trained.preprocess
    started = trained.state["facts"]["base_weights"] is not None
    return replace(
        network.exportable(preprocess.spec),
        base=cache(lambda: base_state(trained.recipe, preprocess.spec, network.data_classes)) if started else None,
        calibration=lambda count: calibration(source.train, preprocess, count),
    )


def calibration(split: Split, preprocess: Preprocess, count: int) -> Tensor:
    """Return up to `count` normalised images (N, 3, H, W), spread over a split; bad ones left out."""
    found = [image for image, _ in _shaped(split, preprocess, count)]
    if not found:
        raise DataError("not one training image can be decoded, and 8 bits are fitted to them", where="[data]")
    return preprocess.normalise(torch.stack(found))


def _shaped(split: Split, preprocess: Preprocess, count: int) -> Any:
    """Yield (image, target) of images spread evenly over a split."""
    for place in range(min(count, len(split))):
        index = place * len(split) // min(count, len(split))
        try:
            yield preprocess.shape(split.image(index)), split.target(index)
        except (OSError, ValueError):
            continue


@torch.inference_mode()
def accuracy(trained: Trained, split: Split, network: Callable[[Tensor], Tensor], batch: int = 32) -> float:
    """Return the share of a split's images that a function of normalised images gets right, in 0 to 1."""
    places = torch.tensor(_places(trained))
    right = seen = 0
    shaped = _shaped(split, trained.preprocess, len(split))
    while pairs := list(islice(shaped, batch)):
        logits = network(trained.preprocess.normalise(torch.stack([image for image, _ in pairs])))
        right += int((logits.argmax(1).cpu() == places[[target for _, target in pairs]]).sum())
        seen += len(pairs)
    return right / seen


def _facts(trained: Trained) -> Facts:
    state, recipe, folder = trained.state, trained.recipe, trained.folder
    found, base = state["facts"], state["facts"]["base_weights"]
    backbone = Part(use=recipe.backbone.part.name, options=recipe.backbone.options.model_dump(mode="json"))
    images = "; ".join(found["images"])
    return Facts(
        name=recipe.run.name,
        backbone=backbone,
        data_classes=trained.network.data_classes,
        weights=trained.weights,
        checkpoint=trained.checkpoint,
        metrics=_metrics(trained),
        licence=base and base["licence"],
        base=base and (base["origin"], base["sha256"] or _unknown(base["origin"])),
        data=(f"{recipe.data.part.name}: train {found['images'][0]}, val {found['images'][1]}", _digest(images)),
        parts=folder.read_json("environment.json")["parts"],
        recipe=folder.recipe.read_text(encoding="utf-8"),
        ledger=folder.read_json("load.json"),
    )


def _metrics(trained: Trained) -> Mapping[str, float]:
    """Return what was measured of just these weights in the run; measured now where it was not."""
    if trained.weights == validated(trained.recipe):
        for entry in reversed(trained.state["progress"]["history"]):
            if entry["best"]:
                return {name: value for name, value in entry["metrics"].items() if name.startswith("val/")}
    try:
        return measure(trained)
    finally:  # it was placed on the fastest device, and is exported from here
        trained.network.model.to("cpu").to(memory_format=torch.contiguous_format)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _unknown(origin: str) -> str:
    """The digest for weights whose bytes the run did not hash: that of the words for them."""
    return _digest(origin)
