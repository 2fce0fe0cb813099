"""What the plugin offers. Nothing heavy is imported until an exporter is built."""

from collections.abc import Iterable

import zoo
from pydantic import Field


class OnnxOptions(zoo.Options):
    """An ONNX graph in one file, for onnxruntime and whatever else reads ONNX."""

    opset: int = Field(18, ge=18, le=21)
    """The version of ONNX's operators: 18 is the first that resizes as zoo does."""
    preprocess: bool = False
    """Whether the graph takes decoded uint8 images of any size and resizes, crops and normalises them itself."""
    fold_bn: bool = False
    """Whether batch norms are folded into the convolutions before them."""


class OnnxInt8Options(zoo.Options):
    """An ONNX graph whose convolutions and matrix products are done in 8 bits."""

    opset: int = Field(18, ge=18, le=21)
    """The version of ONNX's operators."""
    images: int = Field(128, ge=1)
    """Training images whose values show the range that 8 bits have to cover."""
    max_drop: float = Field(0.02, ge=0, le=1)
    """How far the accuracy on the validation images may fall, in 0 to 1."""


PARTS = (
    zoo.ExportPart(
        "onnx",
        build="zoo_onnx.exporters:build",
        options=OnnxOptions,
        summary="model.onnx, for onnxruntime and whatever else reads ONNX",
    ),
    zoo.ExportPart(
        "onnx-int8",
        build="zoo_onnx.exporters:build_int8",
        options=OnnxInt8Options,
        summary="model.int8.onnx, quantised to 8 bits on training images",
    ),
)


@zoo.hookimpl
def zoo_exporters() -> Iterable[zoo.ExportPart]:
    """Offer both exporters."""
    return PARTS
