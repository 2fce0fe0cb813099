"""model.json: what belongs to the weights, for people and for programs. Nothing here imports torch."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from zoo.errors import ZooError
from zoo.registry.contracts import InputSpec

FILE = "model.json"
LINKS = ("base weights", "ledger", "recipe", "parts", "data", "weights")
"""What a lineage is of, from its beginning."""

_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]*"
FileName = Annotated[str, Field(pattern=f"^{_NAME}$")]
"""A file beside model.json: never a path, so that a bundle cannot point outside itself."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Artefact(_Closed):
    """One format of the model: who wrote it, its files, and how near the eager model it is."""

    exporter: str
    """The name of the part, as in `use =`."""
    options: dict[str, Any]
    runtime: str = Field(pattern=r"^[a-z_][a-z0-9_]*$")
    """The package that runs it."""
    takes: Literal["normalised", "decoded"]
    files: dict[FileName, Sha256] = Field(min_length=1)
    """Every file and its digest, the main one first."""
    bytes: int
    tolerance: float
    difference: float
    """Largest difference in logits from the eager model on the golden images, relative to the largest logit."""
    accuracy: float | None = None
    """On the whole validation split, where the format rounds coarsely."""

    @property
    def file(self) -> str:
        """The main file: it names the artefact."""
        return next(iter(self.files))


class Link(_Closed):
    """One thing that the weights come from. `chain` is the SHA-256 of the former link's chain and this digest."""

    what: str
    origin: str
    sha256: Sha256
    chain: Sha256


class Part(_Closed):
    """A part of the recipe, and the options it was built with."""

    use: str
    options: dict[str, Any]


class Manifest(_Closed):
    """The whole of model.json."""

    format: Literal[1] = 1
    name: str
    """The run's name."""
    architecture: str
    """`library/arch`."""
    build: str
    """The library's call that makes the network, for people."""
    backbone: Part
    """The same for zoo."""
    input: dict[str, Any]
    """The preprocessing: fields of `InputSpec`."""
    classes: list[str] = Field(min_length=1)
    """In the order of the logits."""
    data_classes: list[str] = Field(min_length=1)
    """Those of the data, which the first head's target may group."""
    weights: Literal["best", "last", "ema"]
    checkpoint: str
    metrics: dict[str, float]
    """Of these weights, on the run's validation images."""
    licence: str | None
    """Of the base weights."""
    lineage: list[Link]
    artefacts: list[Artefact] = Field(min_length=1)
    zoo: str
    """The version that wrote it."""

    @property
    def spec(self) -> InputSpec:
        """The preprocessing."""
        return TypeAdapter(InputSpec).validate_python(self.input)

    def find(self, file: str) -> Artefact:
        """Return the artefact whose main file it is. ZooError: there is none."""
        for artefact in self.artefacts:
            if artefact.file == file:
                return artefact
        have = ", ".join(artefact.file for artefact in self.artefacts)
        raise ZooError(f"the bundle has no {file!r}", hint=f"it has {have}")

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Return a bundle's model.json. ZooError: there is none, or it is not one that this zoo knows."""
    path = folder / FILE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest.model_validate(table)
        _check_input(manifest.spec)
    except FileNotFoundError:
        what = f"{str(folder)!r} is no bundle: it has no {FILE}"
        raise ZooError(what, hint="`zoo export RUN` makes one, in RUN/export") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ZooError(
            f"{FILE}: {key}: {first['msg'][:1].lower()}{first['msg'][1:]}", str(path), "export the run again"
        ) from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ZooError(f"{FILE} cannot be read: {error}", str(path), "export the run again") from error
    return manifest


def _check_input(spec: InputSpec) -> None:
    """Raise ValueError where no image can be given what a preprocessing says."""
    numbers = all(map(math.isfinite, (*spec.mean, *spec.std)))
    if min(spec.size) < 1 or not 0 < spec.crop_pct <= 1 or not numbers or min(spec.std) <= 0:
        raise ValueError("its input has a size, crop_pct or std that no image can be given")


def chained(items: Sequence[tuple[str, str, str]]) -> list[Link]:
    """Return the links of (what, origin, SHA-256), each bound to those before it."""
    links: list[Link] = []
    for what, origin, digest in items:
        former = links[-1].chain if links else ""
        links.append(Link(what=what, origin=origin, sha256=digest, chain=_bound(former, what, origin, digest)))
    return links


def check_chain(manifest: Manifest, digests: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the lineage: a broken chain, or one of `digests` ({what: SHA-256}) that is not its."""
    found = [link.what for link in manifest.lineage]
    faults = [] if found == list(LINKS) else [f"lineage: it is {', '.join(found) or 'empty'}, not {', '.join(LINKS)}"]
    former = ""
    for link in manifest.lineage:
        if link.chain != _bound(former, link.what, link.origin, link.sha256):
            faults.append(f"lineage: {link.what}: its place in the chain is not that of what it says")
        if digests.get(link.what, link.sha256) != link.sha256:
            faults.append(f"lineage: {link.what}: the file in the bundle is another")
        former = link.chain
    return faults


def _bound(former: str, what: str, origin: str, digest: str) -> str:
    return hashlib.sha256(f"{former}\n{what}\n{origin}\n{digest}".encode()).hexdigest()


def is_file_name(name: str) -> bool:
    """Whether a file may lie beside model.json."""
    return re.fullmatch(_NAME, name) is not None
