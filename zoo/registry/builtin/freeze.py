"""Built-in freeze policies."""

from typing import Annotated, Literal

from pydantic import Field

from zoo.registry.parts import FreezePart, NoOptions, Options

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["frozen"]
"""A multiple of the run's learning rate, 0 in the optimiser without moving; or "frozen", requires_grad=False."""


class HeadOptions(Options):
    """Train heads alone."""

    train: list[str] = []
    """Names of the heads that train; all of them when empty."""


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


class LayerDecayOptions(Options):
    """Rates that fall from layer to layer towards the input (Bao et al. 2021; timm's `layer_decay`)."""

    decay: float = Field(0.75, gt=0, le=1)
    """What a layer's rate is multiplied by for each layer between it and the heads."""
    min_scale: float = Field(0.0, ge=0, le=1)
    """The smallest rate."""


Epoch = Annotated[int, Field(ge=0)]


class GradualOptions(Options):
    """Stages that begin to train one after the other (Howard and Ruder 2018)."""

    thaw: dict[str, Epoch] = {}
    """The epoch, from 0, with which what lies under a prefix begins to train. What no prefix fits stays frozen; of two
    that fit the longer applies. When empty every stage thaws, the last one first."""
    every: int = Field(1, ge=1)
    """Epochs from one stage to the next, where `thaw` is empty."""
    decay: float = Field(1.0, gt=0, le=1)
    """What a stage's rate is multiplied by for each stage between it and the heads, itself included; 1 / 2.6 in the
    paper."""
    rates: dict[str, Rate] = {}
    """Rates by prefix, in place of those by `decay`."""


class TwoPhaseOptions(Options):
    """The heads first, then everything."""

    head_epochs: int = Field(1, ge=1)
    """Epochs in which the heads alone train."""
    rate: float = Field(1.0, gt=0)
    """The backbone's rate after them."""


class LoraOptions(Options):
    """Low-rank adapters on linear and attention layers (Hu et al. 2021), merged at export; nothing else but the heads
    trains."""

    rank: int = Field(8, ge=1)
    """The adapters' rank: each has rank × (inputs + outputs) parameters."""
    alpha: float = Field(16.0, gt=0)
    """What an adapter adds is multiplied by alpha / rank."""
    layers: list[str] = []
    """Globs over the names of the backbone's layers ("blocks.*.attn.*"); all linear and attention layers when empty."""
    rate: float = Field(1.0, gt=0)
    """The adapters' rate; the heads train at the run's."""
    convolutions: bool = False
    """Whether convolutions are adapted too, each as a matrix of outputs by inputs times kernel."""


PARTS = (
    FreezePart("none", build="zoo.freeze.policies:none", options=NoOptions, summary="train everything"),
    FreezePart("head", build="zoo.freeze.policies:head", options=HeadOptions, summary="train the heads only"),
    FreezePart(
        "stages",
        build="zoo.freeze.policies:stages",
        examples="zoo.testing.examples:stages",
        options=StagesOptions,
        summary="freeze named stages",
    ),
    FreezePart(
        "zero-lr",
        build="zoo.freeze.policies:zero_lr",
        options=ZeroLrOptions,
        summary="named stages stay in the optimiser at rate zero",
    ),
    FreezePart(
        "patterns",
        build="zoo.freeze.policies:patterns",
        examples="zoo.testing.examples:patterns",
        options=PatternsOptions,
        summary="a rate by globs of names, the first match wins",
    ),
    FreezePart(
        "discriminative",
        build="zoo.freeze.policies:discriminative",
        examples="zoo.testing.examples:discriminative",
        options=DiscriminativeOptions,
        summary="a rate for each stage",
    ),
    FreezePart(
        "layer-decay",
        build="zoo.freeze.policies:layer_decay",
        options=LayerDecayOptions,
        summary="rates that fall with depth",
    ),
    FreezePart("gradual", build="zoo.freeze.thawing:gradual", options=GradualOptions, summary="thaw stage after stage"),
    FreezePart(
        "two-phase", build="zoo.freeze.thawing:two_phase", options=TwoPhaseOptions, summary="the heads first, then all"
    ),
    FreezePart("bitfit", build="zoo.freeze.policies:bitfit", options=NoOptions, summary="train biases and the heads"),
    FreezePart(
        "norm-only",
        build="zoo.freeze.policies:norm_only",
        options=NoOptions,
        summary="train normalisation layers and the heads",
    ),
    FreezePart(
        "lora",
        build="zoo.freeze.lora:build",
        adapter="zoo.freeze.lora:build_adapter",
        options=LoraOptions,
        summary="train low-rank adapters and the heads",
    ),
)
