"""Built-in freeze policies."""

from typing import Annotated, Literal

from pydantic import Field

from zoo.registry.parts import FreezePart, NoOptions, Options

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["frozen"]
"""A multiple of the run's learning rate, 0 in the optimiser without moving; or "frozen", requires_grad=False."""


class StagesOptions(Options):
    """Freeze named stages: requires_grad=False."""

    frozen: list[str] = Field(min_length=1)
    """Prefixes of the backbone's parameter names, such as "layer1" or "blocks.0"; each must match something."""


class ZeroLrOptions(Options):
    """Keep stages in the optimiser at a learning rate of zero: gradients flow and are counted, nothing moves."""

    frozen: list[str] = []
    """Prefixes of the backbone's parameter names; the whole backbone when empty."""


class PatternsOptions(Options):
    """A rate for every parameter by globs; the first that matches a name applies."""

    rules: list[tuple[str, Rate]] = Field(min_length=1)
    """(glob, rate) pairs over the backbone's own names ("layer4.*") and the heads' ("heads.*")."""


class DiscriminativeOptions(Options):
    """A rate for each stage (Howard and Ruder 2018); the heads train at the run's."""

    rates: dict[str, Rate] = Field(min_length=1)
    """Rates by prefix of the backbone's parameter names; of two that fit the longer applies."""
    rest: Rate = 1.0
    """The rate of what no prefix fits."""


PARTS = (
    FreezePart("none", build="zoo.freeze.policies:none", options=NoOptions, summary="train everything"),
    FreezePart("head", build="zoo.freeze.policies:head", options=NoOptions, summary="train the head only"),
    FreezePart("stages", build="zoo.freeze.policies:stages", options=StagesOptions, summary="freeze named stages"),
    FreezePart(
        "zero-lr",
        build="zoo.freeze.policies:zero_lr",
        options=ZeroLrOptions,
        summary="named stages stay in the optimiser at rate zero",
    ),
    FreezePart(
        "patterns",
        build="zoo.freeze.policies:patterns",
        options=PatternsOptions,
        summary="a rate by globs of names, the first match wins",
    ),
    FreezePart(
        "discriminative",
        build="zoo.freeze.policies:discriminative",
        options=DiscriminativeOptions,
        summary="a rate for each stage",
    ),
    FreezePart("bitfit", build="zoo.freeze.policies:bitfit", options=NoOptions, summary="train biases and the heads"),
)
