"""Built-in exporters."""

from typing import Literal

from zoo.registry.parts import ExportPart, Options


class SafetensorsOptions(Options):
    """One safetensors file under the architecture's native names, and a JSON file with what belongs to it."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The type of floating-point tensors in the file."""


PARTS = (
    ExportPart(
        "safetensors",
        build="zoo.export.safetensors:build",
        options=SafetensorsOptions,
        summary="model.safetensors under native names, with model.json",
    ),
)
