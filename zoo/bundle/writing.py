"""Write a bundle: every artefact read back and compared with the model, from the bytes of images on; all or nothing."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from zoo import __version__
from zoo.bundle.card import write_card
from zoo.bundle.folder import LEDGER, RECIPE, pack, unpacked
from zoo.bundle.golden import FOLDER, Golden, GoldenImage, golden_files
from zoo.bundle.manifest import FILE, Artefact, Manifest, Part, chained, is_file_name, read_manifest
from zoo.bundle.predictor import Predictor
from zoo.errors import ZooError
from zoo.export.native import serialise
from zoo.files import new_folder, sha256, write_file
from zoo.registry.contracts import Exportable, Exporter
from zoo.registry.events import ArtefactWritten

CARD = "README.md"
MODEL = "model"
"""Names the model itself among the artefacts' logits."""

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Format:
    """An exporter, and how a recipe names it."""

    name: str
    options: Mapping[str, Any]
    exporter: Exporter


@dataclass(frozen=True)
class Facts:
    """What a bundle says of the run. `base` and `data` are (origin, SHA-256); `parts` is who offered each part."""

    name: str
    backbone: Part
    data_classes: Sequence[str]
    weights: Any
    checkpoint: str
    metrics: Mapping[str, float]
    licence: str | None
    base: tuple[str, str] | None
    data: tuple[str, str]
    parts: Mapping[str, str]
    recipe: str
    ledger: Mapping[str, Any]


@dataclass(frozen=True)
class Reference:
    """What artefacts are held against: the trained model, golden images, and how accurate a function is.

    `eager` maps normalised images to logits as the trained model gives them. `accuracy` measures any such function on
    the validation split.
    """

    eager: Network
    images: Sequence[GoldenImage]
    accuracy: Callable[[Network], float]


@dataclass(frozen=True)
class _Written:
    artefact: Artefact
    logits: list[list[float]]
    code: str


def write_bundle(
    path: Path, model: Exportable, formats: Sequence[Format], reference: Reference, facts: Facts
) -> tuple[ArtefactWritten, ...]:
    """Write `model` in every format into the folder `path`, or into a zip where it ends in .zip; say what was written.

    ZooError: an artefact read back differs by more than its exporter's tolerance or has lost more accuracy than
    allowed, or cannot be written (disk full); then `path` stays as it was.
    """
    zipped = path.suffix == ".zip"
    try:
        place = path.resolve()  # "." has no name, and a link stays: what it points to is replaced
        _check_place(place, path)
        if zipped:
            with TemporaryDirectory(prefix="zoo-bundle-") as scratch:
                folder = Path(scratch) / "bundle"
                written = _write(folder, model, formats, reference, facts)
                place.parent.mkdir(parents=True, exist_ok=True)
                with write_file(place) as draft:
                    pack(folder, draft)
        else:
            written = _write(place, model, formats, reference, facts)
    except (OSError, SafetensorError) as error:
        what = f"the bundle cannot be written: {error}"
        raise ZooError(what, where=str(path), hint="mend this, then `zoo export RUN`") from error
    return tuple(_told(made.artefact, path, zipped) for made in written)


def _told(artefact: Artefact, path: Path, zipped: bool) -> ArtefactWritten:
    files = (path,) if zipped else tuple(path / name for name in artefact.files)
    return ArtefactWritten(artefact.exporter, files, artefact.difference)


def _check_place(path: Path, asked: Path) -> None:
    """Raise ZooError where something stands that is not a former bundle: it would be replaced."""
    if not path.exists():
        return
    zipped = path.suffix == ".zip"
    odd = _foreign(path) if path.is_dir() and not zipped else _foreign_zip(path) if zipped else [path.name]
    if path == Path.cwd():
        odd = ["the folder that you are in"]
    if odd:
        shown = ", ".join(odd[:4]) + (", …" if len(odd) > 4 else "")
        what = f"there is something else already: {shown}"
        raise ZooError(what, where=str(asked), hint="name a new folder for the bundle with --out")


def _foreign(folder: Path) -> list[str]:
    """Return the names in a folder that no bundle has there."""
    names = sorted(entry.name for entry in folder.iterdir())
    if FILE not in names:
        return names
    try:
        artefacts = read_manifest(folder).artefacts
    except ZooError:  # somebody else's model.json, or one that is damaged
        return names
    known = {FILE, RECIPE, LEDGER, CARD, FOLDER} | {name for artefact in artefacts for name in artefact.files}
    odd = [name for name in names if name not in known]
    below = folder / FOLDER
    golden = {f"{FOLDER}/{entry.name}" for entry in below.iterdir()} if below.is_dir() else set()
    return [*odd, *sorted(golden - golden_files(folder))]


def _foreign_zip(path: Path) -> list[str]:
    """Return the names in a zip that no bundle has there; the zip's own where it is none."""
    try:
        with unpacked(path) as folder:
            return [f"{path.name}: {name}" for name in _foreign(folder)]
    except ZooError:
        return [path.name]


def _write(
    path: Path, model: Exportable, formats: Sequence[Format], reference: Reference, facts: Facts
) -> list[_Written]:
    expected = _logits(Predictor(reference.eager, model.input, model.classes), reference.images)
    with new_folder(path) as draft:
        owners: dict[str, str] = {}
        written = [_export(chosen, model, draft, owners, reference, expected) for chosen in formats]
        logits = {MODEL: expected.tolist(), **{made.artefact.file: made.logits for made in written}}
        Golden(tuple(reference.images), model.classes, logits).write(draft)
        (draft / RECIPE).write_text(facts.recipe, encoding="utf-8")
        (draft / LEDGER).write_text(_json(facts.ledger), encoding="utf-8")
        manifest = _manifest(model, facts, draft, [made.artefact for made in written])
        (draft / FILE).write_text(manifest.to_json(), encoding="utf-8")
        card = write_card(manifest, [made.code for made in written])
        (draft / CARD).write_text(card, encoding="utf-8")
    return written


def _export(
    chosen: Format,
    model: Exportable,
    draft: Path,
    owners: dict[str, str],
    reference: Reference,
    expected: Tensor,
) -> _Written:
    """Write one format into the draft, read it back from there, and compare."""
    exporter = chosen.exporter
    exporter.check(model)
    with TemporaryDirectory(dir=draft, prefix=".part.") as scratch:
        made = [file.name for file in _made(exporter, model, Path(scratch))]
        for name in made:
            _move(Path(scratch) / name, draft / name, chosen.name, owners)
    network = exporter.read(model, draft)
    predictor = Predictor(network, model.input, model.classes, exporter.takes)
    logits = _logits(predictor, reference.images)
    if exporter.takes == "decoded":
        _check_pair(network, predictor.decode(reference.images[0].data), logits[0])
    difference = _difference(logits, expected)
    _check(chosen, difference)
    artefact = Artefact(
        exporter=chosen.name,
        options=dict(chosen.options),
        runtime=exporter.runtime(model.native),
        takes=exporter.takes,
        files={name: sha256(draft / name) for name in made},
        bytes=sum((draft / name).stat().st_size for name in made),
        tolerance=exporter.tolerance,
        difference=difference,
        accuracy=_accuracy(chosen, network, reference),
    )
    return _Written(artefact, logits.tolist(), exporter.code(model))


def _made(exporter: Exporter, model: Exportable, folder: Path) -> tuple[Path, ...]:
    try:
        return exporter.write(model, folder)
    except RuntimeError as error:  # torch's writers say so of a full disk
        raise OSError(str(error).splitlines()[0]) from error


def _move(source: Path, target: Path, owner: str, owners: dict[str, str]) -> None:
    """Move a file into the bundle. ZooError: two formats have other bytes under one name."""
    name = target.name
    if not is_file_name(name) or name in (FILE, RECIPE, LEDGER, CARD, FOLDER, MODEL):
        raise ZooError(f"the exporter {owner!r} writes {name!r}, which is no name for an artefact")
    if target.exists() and source.read_bytes() != target.read_bytes():
        what = f"the exporters {owners[name]!r} and {owner!r} both write {name}, with other bytes"
        raise ZooError(what, where="[[export]]", hint="leave one of them out")
    owners.setdefault(name, owner)
    source.replace(target)


@torch.inference_mode()
def _logits(predictor: Predictor, images: Sequence[GoldenImage]) -> Tensor:
    """Return logits (N, K) from the images' bytes on: all at once, and the first one alone must be the same."""
    decoded = [predictor.decode(image.data) for image in images]
    logits = predictor.logits(decoded)
    alone = predictor.logits(decoded[:1])
    if _difference(alone, logits[:1]) > 1e-4:
        raise ZooError(
            "an image gives other logits alone than in a batch", hint="nothing was written; please report this"
        )
    return logits


@torch.inference_mode()
def _check_pair(network: Network, image: Tensor, logits: Tensor) -> None:
    """Raise ZooError where an image in its own size gives other logits (K,) beside another of that size."""
    if not _difference(network(torch.stack([image, image])).float().cpu(), logits.expand(2, -1)) <= 1e-4:
        raise ZooError("two images give other logits than one", hint="nothing was written; please report this")


def _difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference in logits, as a share of the largest expected."""
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def _check(chosen: Format, difference: float) -> None:
    if not difference <= chosen.exporter.tolerance:
        what = f"{chosen.name}: the artefact's logits differ from the model's by {difference:.2g} of the largest"
        raise ZooError(
            f"{what}, more than {chosen.exporter.tolerance:g}",
            hint="nothing was written; please report this"
            if chosen.exporter.max_drop is None
            else "nothing was written; calibrate on more images, or leave this format out",
        )


def _accuracy(chosen: Format, network: Network, reference: Reference) -> float | None:
    allowed = chosen.exporter.max_drop
    if allowed is None:
        return None
    before, after = reference.accuracy(reference.eager), reference.accuracy(network)
    if not before - after <= allowed:
        what = f"{chosen.name}: accuracy falls from {before:.4f} to {after:.4f}, by more than {allowed:g}"
        raise ZooError(what, where="[[export]]", hint="nothing was written; calibrate on more images, or allow more")
    return after


def _manifest(model: Exportable, facts: Facts, draft: Path, artefacts: list[Artefact]) -> Manifest:
    parts = _json(facts.parts)
    weights = hashlib.sha256(serialise(model.state)).hexdigest()
    links = [
        ("base weights", *(facts.base or ("none", hashlib.sha256(b"").hexdigest()))),
        ("ledger", LEDGER, sha256(draft / LEDGER)),
        ("recipe", RECIPE, sha256(draft / RECIPE)),
        ("parts", ", ".join(sorted(set(facts.parts.values()))), hashlib.sha256(parts.encode()).hexdigest()),
        ("data", *facts.data),
        ("weights", f"{facts.weights}, {facts.checkpoint}", weights),
    ]
    return Manifest(
        name=facts.name,
        architecture=model.native.identity,
        build=model.native.call(len(model.classes)),
        backbone=facts.backbone,
        input=json.loads(json.dumps(asdict(model.input))),
        classes=list(model.classes),
        data_classes=list(facts.data_classes),
        weights=facts.weights,
        checkpoint=facts.checkpoint,
        metrics=dict(facts.metrics),
        licence=facts.licence,
        lineage=chained(links),
        artefacts=artefacts,
        zoo=__version__,
    )


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
