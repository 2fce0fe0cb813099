"""Static quantisation by onnxruntime: weights per channel, activations by the range that they have on real images."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from onnx import ModelProto
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]
from torch import Tensor

from zoo_onnx.capture import INPUT, strip

BATCH = 16
"""Images that are calibrated with at once."""
QUANTISED = ["Conv", "Gemm", "MatMul", "Relu", "Clip"]
"""Where the time goes, and what only cuts the range of the values before it: left out, 8 bits would cover what is cut
off. Sums stay in float32: in 8 bits they cost transformers much and save little."""


def quantise(model: ModelProto, images: Tensor) -> ModelProto:
    """Return the graph in QDQ form, calibrated on normalised float32 `images` (N, 3, H, W). Always the same."""
    with TemporaryDirectory(prefix="zoo-onnx-") as folder:
        plain, prepared, quantised = (Path(folder) / f"{stage}.onnx" for stage in ("plain", "prepared", "quantised"))
        onnx.save_model(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            Batches(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            reduce_range=True,  # 7 bits for weights: with 8, processors without VNNI silently clip sums of two products
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        result = onnx.load_model(quantised)
    strip(result)
    return result


class Batches(CalibrationDataReader):  # type: ignore[misc]
    """Calibration images, `BATCH` at a time."""

    def __init__(self, images: Tensor) -> None:
        self._batches: Iterator[Tensor] = iter(torch.split(images, BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch under the name of the graph's input, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.numpy()}
