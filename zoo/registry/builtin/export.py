"""Built-in exporters."""

from typing import Literal

from zoo.registry.parts import ExportPart, Options


class SafetensorsOptions(Options):
    """One safetensors file under the architecture's native names."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The type of floating-point tensors in the file."""


class PthOptions(Options):
    """A plain state dict in torch's own format, under native names; loads with weights_only=True."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The type of floating-point tensors in the file."""


class HubOptions(Options):
    """What the Hugging Face hub holds of a timm model, as `timm.create_model("local-dir:…")` opens it."""


class DeltaOptions(Options):
    """The tensors that differ from the weights that training started from; `zoo weights apply` puts them together."""


class GraphOptions(Options):
    """A graph that needs no model code."""

    preprocess: bool = False
    """Whether the graph takes decoded uint8 images of any size and resizes, crops and normalises them itself."""
    fold_bn: bool = False
    """Whether batch norms are folded into the convolutions before them."""


class TorchscriptOptions(GraphOptions):
    """A traced TorchScript file, for `torch.jit.load` in Python and C++."""


class Pt2Options(GraphOptions):
    """A torch.export file, for `torch.export.load`."""


PARTS = (
    ExportPart(
        "safetensors",
        build="zoo.export.state:build_safetensors",
        options=SafetensorsOptions,
        summary="model.safetensors under native names",
    ),
    ExportPart(
        "pth",
        build="zoo.export.state:build_pth",
        options=PthOptions,
        summary="model.pth, a plain state dict that torch.load(weights_only=True) opens",
    ),
    ExportPart(
        "hub",
        build="zoo.export.hub:build",
        options=HubOptions,
        summary='config.json and model.safetensors, for timm.create_model("local-dir:…")',
    ),
    ExportPart(
        "delta",
        build="zoo.export.delta:build",
        options=DeltaOptions,
        summary="delta.safetensors, only what differs from the base weights",
    ),
    ExportPart(
        "torchscript",
        build="zoo.export.torchscript:build",
        options=TorchscriptOptions,
        summary="model.torchscript.pt, for torch.jit.load in Python and C++",
    ),
    ExportPart(
        "pt2",
        build="zoo.export.pt2:build",
        options=Pt2Options,
        summary="model.pt2, for torch.export.load",
    ),
)
