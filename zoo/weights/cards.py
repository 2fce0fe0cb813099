"""Cards: what is known of a checkpoint, in a TOML file that lies beside it or points to where it comes from."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from zoo.errors import Problem, WeightsError, nearest
from zoo.registry.builtin.weights import FileOptions, HubOptions, PackageOptions, UrlOptions, web_address
from zoo.registry.contracts import Align, InputSpec, Interpolation, WeightsFile, WeightsRequest

Triple = tuple[float, float, float]
Positive = Annotated[int, Field(ge=1)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class CardInput(_Closed):
    """The preprocessing that the weights were trained for; what is left out is as in `InputSpec`."""

    size: Positive | tuple[Positive, Positive] = 224
    """Pixels, one side or (height, width)."""
    mean: Triple = InputSpec.mean
    """Per channel, of pixels in [0, 1]."""
    std: Triple = InputSpec.std
    """Per channel, of pixels in [0, 1]."""
    interpolation: Interpolation = InputSpec.interpolation
    """How an image is resized."""
    crop_pct: Annotated[float, Field(gt=0, le=1)] = InputSpec.crop_pct
    """Share of the resized image's shorter side that the centre crop keeps."""

    def spec(self) -> InputSpec:
        """Return it as the contract has it."""
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        return InputSpec(size, self.mean, self.std, self.interpolation, self.crop_pct)


class CardMetric(_Closed):
    """A figure that the weights reach."""

    name: str
    """What was measured: "accuracy"."""
    value: float
    """The figure, as a share of one where it is one."""
    dataset: str
    """On what: data set and split."""
    source: str
    """Who measured it, and where that is written."""


class _Origin(_Closed):
    def keys(self) -> dict[str, Any]:
        """Return the options of the source that `use` names."""
        return self.model_dump(exclude={"use"})


class PackageOrigin(_Origin):
    """A file inside a distribution on PyPI."""

    use: Literal["package"]
    package: str
    """The distribution's name."""
    file: Path
    """The file's path inside it."""


class HubOrigin(_Origin):
    """A file on the Hugging Face Hub."""

    use: Literal["hub"]
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """`owner/name`."""
    file: str = "model.safetensors"
    """The file's path in the repository."""
    revision: str = "main"
    """A branch, tag or commit."""


class UrlOrigin(_Origin):
    """A file at an address of the web."""

    use: Literal["url"]
    url: Annotated[str, AfterValidator(web_address)]
    """http or https, ending in the file's name."""


class Card(_Closed):
    """Everything that a card says."""

    architecture: str = Field(pattern=r"^[\w-]+/[\w.-]+$")
    """`library/arch`: "timm/resnet50"."""
    file: Path | None = None
    """The checkpoint, relative to the card's folder; or there is an `origin`."""
    origin: Annotated[PackageOrigin | HubOrigin | UrlOrigin, Field(discriminator="use")] | None = None
    """Where the checkpoint comes from."""
    bytes: int = Field(ge=1)
    """The file's size."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The file's SHA-256, in lower-case hex."""
    licence: str
    """The weights' licence, as an SPDX identifier where there is one."""
    made: str
    """How the weights were made, and by whom."""
    input: CardInput = CardInput()
    """The preprocessing that the weights were trained for."""
    classes: tuple[str, ...] | None = None
    """The classifier's class names, in the order of its rows."""
    classes_file: Path | None = None
    """The same, a name a line, in a file beside the card."""
    rename: tuple[tuple[str, str], ...] = ()
    """(regular expression, replacement) pairs, applied in order to every key."""
    align: Align = "names"
    """"order": the tensors come in the architecture's own order, under names that mean nothing to it."""
    may_miss: tuple[str, ...] = ()
    """Globs of the architecture's tensors that the file does not have."""
    may_drop: tuple[str, ...] = ()
    """Globs of keys that the architecture has no place for, such as a classifier that only served training."""
    metric: CardMetric | None = None
    """A figure that the weights reach."""

    @field_validator("rename")
    @classmethod
    def _compiles(cls, rename: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for pattern, _ in rename:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return rename

    @model_validator(mode="after")
    def _one_of_each(self) -> "Card":
        if (self.file is None) == (self.origin is None):
            raise ValueError("give `file` or `[origin]`, one of them")
        if self.classes is not None and self.classes_file is not None:
            raise ValueError("give `classes` or `classes_file`, not both")
        return self


def find_card(name: str, folders: Sequence[Path]) -> Path:
    """Return the path of the card called `name` in the first folder that has it; a name ending in .toml is a path.

    WeightsError names the nearest cards.
    """
    paths = [Path(name)] if name.endswith(".toml") else [folder / f"{name}.toml" for folder in folders]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        looked = ", ".join(str(path.parent) for path in paths) or "no folder"
        raise WeightsError(f"there is no card {name!r}", where=looked, hint=nearest(name, _names(folders)))
    return found


def read_card(path: Path) -> Card:
    """Return the card in a TOML file. WeightsError names every problem in it."""
    try:
        return Card.model_validate(tomli.loads(path.read_text(encoding="utf-8")))
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"the card is not TOML: {error}", where=str(path)) from None
    except ValidationError as error:
        raise WeightsError.of(_problems(error, path)) from None


def open_card(card: Card, path: Path, request: WeightsRequest) -> WeightsFile:
    """Return the file that `card`, read from `path`, describes. WeightsError: it cannot be had, or its size is another.

    Its SHA-256 is compared when it is read.
    """
    found = _find(card, path, request)
    size = found.path.stat().st_size
    if size != card.bytes:
        raise WeightsError(
            f"{found.path.name} has {size:,} bytes, the card says {card.bytes:,}",
            where=str(path),
            hint="the file is incomplete or another one: get it again, or correct the card",
        )
    return replace(
        found,
        sha256=card.sha256,
        architecture=card.architecture,
        rename=card.rename,
        align=card.align,
        may_miss=card.may_miss,
        may_drop=card.may_drop,
        input=card.input.spec(),
        classes=_classes(card, path),
        licence=card.licence,
    )


def _names(folders: Iterable[Path]) -> list[str]:
    return [card.stem for folder in folders for card in folder.glob("*.toml")]


def _problems(error: ValidationError, path: Path) -> list[Problem]:
    return [
        Problem(f"{key}: {found['msg']}" if key else found["msg"], str(path))
        for found in error.errors()
        for key in [".".join(str(part) for part in found["loc"])]
    ]


def _find(card: Card, path: Path, request: WeightsRequest) -> WeightsFile:
    from zoo.weights import file, hub, package, url  # only here: a card is read and listed without torch

    if isinstance(card.origin, HubOrigin):
        found = hub.build(HubOptions(**card.origin.keys()), request)
    elif isinstance(card.origin, PackageOrigin):
        found = package.build(PackageOptions(**card.origin.keys()), request)
    elif isinstance(card.origin, UrlOrigin):
        found = url.build(UrlOptions(**card.origin.keys(), sha256=card.sha256), request)
    else:
        found = file.build(FileOptions(file=path.parent / (card.file or ""), sha256=card.sha256), request)
    return replace(found, origin=f"card {path.stem}, {found.origin}")


def _classes(card: Card, path: Path) -> tuple[str, ...] | None:
    if card.classes_file is None:
        return card.classes
    try:
        return tuple((path.parent / card.classes_file).read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise WeightsError(f"classes_file {card.classes_file}: {error.strerror}", where=str(path)) from None
