"""Built-in freeze policies."""

from pydantic import Field

from zoo.registry.parts import FreezePart, NoOptions, Options


class StagesOptions(Options):
    """Freeze named stages: requires_grad=False."""

    frozen: list[str] = Field(min_length=1)
    """Prefixes of the backbone's parameter names, such as "layer1" or "blocks.0"; each must match something."""


class ZeroLrOptions(Options):
    """Keep stages in the optimiser at a learning rate of zero: gradients flow and are counted, nothing moves."""

    frozen: list[str] = []
    """Prefixes of the backbone's parameter names; the whole backbone when empty."""


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
)
