"""zoo's preprocessing as ONNX operators: from decoded uint8 images of any size to what a network takes."""

import math

import torch
import zoo
from onnx import ModelProto, TensorProto, compose, numpy_helper, parser

from zoo_onnx.capture import INPUT, strip

_MODES = {"bilinear": 'mode = "linear"', "bicubic": 'mode = "cubic", cubic_coeff_a = -0.5'}

_GRAPH = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
preprocess (uint8[batch, 3, height, width] images) => (float[batch, 3, {rows}, {columns}] normalised)
<int64[1] cover = {{{cover}}}, int64[2] target = {{{rows}, {columns}}}, int64 two = {{2}}, int64[2] sides = {{2, 3}}>
{{
    size = Shape <start = 2> (images)
    shorter = ReduceMin (size)
    scaled = Mul (size, cover)
    covering = Div (scaled, shorter)
    whole = Shape <end = 2> (images)
    resized_shape = Concat <axis = 0> (whole, covering)
    resized = Resize <{mode}, antialias = 1, exclude_outside = 1> (images, , , resized_shape)
    excess = Sub (covering, target)
    half = Div (excess, two)
    odd = Mod (half, two)
    even = Add (excess, odd)
    first = Div (even, two)
    last = Add (first, target)
    cropped = Slice (resized, first, last, sides)
    pixels = Cast <to = 1> (cropped)
    centred = Sub (pixels, mean)
    normalised = Div (centred, std)
}}
"""
"""Integer division and the `half` that is made even are `zoo.Decoded`'s. Resizing uint8 rounds after each of its two
passes, as torch does."""


def with_preprocessing(network: ModelProto, spec: zoo.InputSpec) -> ModelProto:
    """Return the network's graph with the preprocessing in front: its input is uint8 `images` (B, 3, any H, any W)."""
    before = preprocessing(spec, network.opset_import[0].version, network.ir_version)
    compose.add_prefix(before, "preprocess/", rename_inputs=False, inplace=True)
    joined = compose.merge_models(before, network, io_map=[(before.graph.output[0].name, INPUT)])
    strip(joined)
    return joined


def preprocessing(spec: zoo.InputSpec, opset: int, ir: int) -> ModelProto:
    """Return a graph from uint8 `images` (B, 3, any H, any W) to float32 `normalised` (B, 3, *size)."""
    rows, columns = spec.size
    cover = math.floor(rows / spec.crop_pct)
    mode = _MODES[spec.interpolation]
    model = parser.parse_model(_GRAPH.format(ir=ir, opset=opset, rows=rows, columns=columns, cover=cover, mode=mode))
    model.graph.initializer.extend([_scale("mean", spec.mean), _scale("std", spec.std)])
    return model


def _scale(name: str, values: tuple[float, ...]) -> TensorProto:
    """Return one value a channel, of 255, rounded as zoo rounds it."""
    return numpy_helper.from_array(torch.tensor(values).mul(255).view(3, 1, 1).numpy(), name)
