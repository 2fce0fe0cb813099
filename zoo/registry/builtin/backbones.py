"""Built-in backbones: every architecture of timm and torchvision, by name."""

from pydantic import Field, field_validator

from zoo.registry.builtin import architectures
from zoo.registry.parts import BackbonePart, Options


class TimmOptions(Options):
    """A timm architecture."""

    arch: str
    """timm's name of the architecture, with or without a pretrained tag: "resnet50", "resnet50.a1_in1k"."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth: the rate of the last block (timm's drop_path_rate)."""

    @field_validator("arch")
    @classmethod
    def _known(cls, arch: str) -> str:
        architectures.require("timm", arch.split(".")[0])
        return arch


class TorchvisionOptions(Options):
    """A torchvision classification architecture."""

    arch: str
    """torchvision's name of the architecture: "resnet50", "convnext_tiny"."""

    @field_validator("arch")
    @classmethod
    def _known(cls, arch: str) -> str:
        architectures.require("torchvision", arch)
        return arch


PARTS = (
    BackbonePart(
        "timm",
        build="zoo.backbones.timm:build",
        examples="zoo.testing.examples:timm",
        options=TimmOptions,
        summary="any architecture of timm, by name",
        variants="zoo.backbones.timm:architectures",
    ),
    BackbonePart(
        "torchvision",
        build="zoo.backbones.torchvision:build",
        examples="zoo.testing.examples:torchvision",
        options=TorchvisionOptions,
        summary="any classification architecture of torchvision, by name",
        variants="zoo.backbones.torchvision:architectures",
    ),
)
