"""Bundles in use: load one as a predictor, verify one, put a delta together with its base weights."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.bundle import Bundle, Outcome, Predictor, opened, replay
from zoo.bundle.manifest import FILE, Artefact
from zoo.bundle.replay import Predict, tolerance_of
from zoo.devices.single import find_device
from zoo.errors import DeviceError, Problem, WeightsError, ZooError
from zoo.export.delta import FILE as DELTA
from zoo.export.delta import put_together
from zoo.export.native import serialise
from zoo.files import sha256, write_file
from zoo.recipe import load_recipe
from zoo.registry import Registry, load_registry
from zoo.registry.contracts import WeightsFile
from zoo.run.base import base_state
from zoo.run.folder import RunFolder
from zoo.run.trained import Trained, load_trained

PREFERRED = ("safetensors", "pth", "hub", "delta")
"""Exporters whose artefacts are opened first: as exact as the run, and a network that moves to any device."""


def load(
    path: str | Path, *, device: str = "auto", artefact: str | None = None, registry: Registry | None = None
) -> Predictor:
    """Return a bundle, a folder or a zip, as a predictor: images in, class names and probabilities out.

    `artefact` is the main file of one of its formats (the exact weights when None). Graphs run on the CPU. `registry`
    is that of all installed plugins when None. ZooError: it is no bundle, or its files are not those that were written.
    """
    with opened(Path(path), registry or load_registry()) as bundle:
        manifest = bundle.manifest
        chosen = manifest.find(artefact) if artefact else _preferred(manifest.artefacts)
        network = bundle.open(chosen, base_of(bundle))
        place = _moved(network, device, chosen.exporter in PREFERRED)
        return Predictor(network, manifest.spec, manifest.classes, chosen.takes, place)


def load_any(path: Path, registry: Registry, device: str = "auto") -> Predictor:
    """Return a bundle or a run's best weights as a predictor. ZooError: it is neither."""
    if path.is_dir() and not (path / FILE).exists() and (path / "recipe.toml").exists():
        return of_run(load_trained(RunFolder(path), registry), device)
    return load(path, device=device, registry=registry)


def of_run(trained: Trained, device: str = "auto") -> Predictor:
    """Return a run's weights as a predictor."""
    place = find_device(device)
    trained.network.model.to(place)
    return Predictor(trained.logits, trained.preprocess.spec, trained.classes, device=place)


def _preferred(artefacts: Sequence[Artefact]) -> Artefact:
    def order(artefact: Artefact) -> tuple[bool, float, bool]:
        return artefact.exporter not in PREFERRED, artefact.tolerance, artefact.exporter == "delta"

    return min(artefacts, key=order)


def _moved(network: Callable[[Tensor], Tensor], device: str, movable: bool) -> torch.device:
    """Move a network of library modules to the device. DeviceError: it is a graph, and stays on the CPU."""
    if not movable or not isinstance(network, nn.Module):
        if device not in ("auto", "cpu"):
            raise DeviceError(f"a graph runs on the CPU here, not on {device!r}", hint="open it with its own runtime")
        return find_device("cpu")
    place = find_device(device)
    network.to(place)
    return place


def verify(
    path: str | Path,
    predict: Predict | None = None,
    *,
    runtime: str | None = None,
    artefact: str | None = None,
    registry: Registry | None = None,
) -> tuple[Outcome, ...]:
    """Replay a bundle's golden images, from their bytes on, and return how every artefact did.

    `predict`, where given, is checked instead: any function from an image file's bytes to logits, {class name: logit}
    or in the order of model.json's classes, such as your own deployment; it is held against `artefact` (the most exact
    when None). `runtime` chooses the artefacts that one package runs. ZooError: anything differs; all of it is said.
    """
    with opened(Path(path), registry or load_registry()) as bundle:
        outcomes, faults = outcomes_of(bundle, predict, runtime, artefact)
    if faults:
        raise ZooError.of(faults)
    return outcomes


def outcomes_of(
    bundle: Bundle, predict: Predict | None = None, runtime: str | None = None, artefact: str | None = None
) -> tuple[tuple[Outcome, ...], list[Problem]]:
    """Return how the artefacts did, and everything that is wrong."""
    golden, classes = bundle.golden(), bundle.manifest.classes
    problems = [Problem(fault, str(bundle.path), "export the run again") for fault in bundle.broken_lineage()]
    outcomes = []
    chosen = [bundle.manifest.find(artefact)] if artefact else list(bundle.choose(runtime))
    for found in [_preferred(chosen)] if predict else chosen:
        try:
            give = predict or _predict(bundle, found)
        except ZooError as error:  # the others are looked at all the same
            problems += error.problems
            continue
        name = "yours" if predict else found.runtime
        outcome = replay(give, golden, classes, found.file, name, tolerance_of(found))
        outcomes.append(outcome)
        problems += [
            Problem(fault, f"{outcome.artefact} ({name})", outcome.cause and f"likely: {outcome.cause}")
            for fault in outcome.faults
        ]
    return tuple(outcomes), list(dict.fromkeys(problems))


def _predict(bundle: Bundle, artefact: Artefact) -> Predict:
    _require(artefact.runtime)
    network = bundle.open(artefact, base_of(bundle))
    predictor = Predictor(network, bundle.manifest.spec, bundle.manifest.classes, artefact.takes)

    def predict(data: bytes) -> Sequence[float]:
        row: list[float] = predictor.logits([predictor.decode(data)])[0].tolist()
        return row

    return predict


def _require(runtime: str) -> None:
    if find_spec(runtime) is None:
        raise ZooError(f"{runtime} is not installed", hint=f"pip install {runtime}, or choose another with --runtime")


def base_of(bundle: Bundle, file: WeightsFile | None = None) -> Callable[[], Mapping[str, Tensor]]:
    """Return what makes a bundle's base weights, from `file` or as its recipe has them. Nothing is read yet."""

    @cache
    def base() -> Mapping[str, Tensor]:
        recipe = load_recipe(bundle.recipe, bundle.registry)
        return base_state(recipe, bundle.manifest.spec, tuple(bundle.manifest.data_classes), file)

    return base


def apply_delta(path: Path, out: Path, base: Path | None = None, registry: Registry | None = None) -> str:
    """Put a bundle's delta and its base weights together, write them as one safetensors file, and return its SHA-256.

    `path` is the bundle or its delta.safetensors; `base` the base weights' file, where the recipe's own place for them
    is not to be had. WeightsError: the whole would not be, byte for byte, what was exported.
    """
    if out.exists() or out.is_symlink():
        raise WeightsError(f"{str(out)!r} is there already", hint="name a new file")
    with opened(path.parent if path.name == DELTA else path, registry or load_registry()) as bundle:
        file = WeightsFile(base, origin=f"file {base}") if base else None
        described = bundle.described(base_of(bundle, file))
        damage = bundle.damage(bundle.manifest.find(DELTA))
        if damage:
            raise ZooError(damage[0], where=str(bundle.path), hint="export the run again")
        whole = serialise(put_together(described, bundle.path / DELTA))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with write_file(out) as draft:
            draft.write_bytes(whole)
    except OSError as error:
        raise WeightsError(f"the weights cannot be written: {error}", where=str(out)) from error
    return sha256(out)
