"""Heads that work, and are declared wrongly."""

from pydantic import BaseModel, ConfigDict

from tests.testing.faulty.heads import Head
from zoo import FeatureSpec, HeadPart, Options, TargetSpec


class Silent(Options):
    rate: float = 1.0


class Open(Options):
    model_config = ConfigDict(extra="allow")

    rate: float = 1.0
    """A rate."""


class Mutable(Options):
    model_config = ConfigDict(frozen=False)

    rate: float = 1.0
    """A rate."""


class Taken(Options):
    weight: float = 1.0
    """A rate."""


class Lossy(Options):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    names: frozenset[str] | list[str] = frozenset({"a", "b"})
    """Names."""


def build(options: BaseModel, features: FeatureSpec, target: TargetSpec) -> Head:
    return Head(features, len(target.classes), "")


def build_of_two(options: BaseModel, features: FeatureSpec) -> Head:
    return Head(features, 3, "")


def _part(options: type[Options], summary: str = "a head", build: str = "build") -> HeadPart:
    return HeadPart(
        "declared",
        build=f"tests.testing.faulty.declared:{build}",
        options=options,
        summary=summary,
        metrics={"accuracy": "max"},
    )


FAULTY = {
    "no description": (_part(Silent), "described"),
    "no summary": (_part(Options, summary=""), "described"),
    "any key": (_part(Open), "options closed"),
    "options that change": (_part(Mutable), "options closed"),
    "a key of every head": (_part(Taken), "option names"),
    "options that read back otherwise": (_part(Lossy), "options round trip"),
    "a builder of two": (_part(Options, build="build_of_two"), "builder"),
}
