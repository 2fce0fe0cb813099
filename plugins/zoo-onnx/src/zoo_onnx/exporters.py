"""The exporters: model.onnx and model.int8.onnx."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
import zoo
from onnx import ModelProto
from torch import Tensor, nn
from torch.onnx import OnnxExporterError

from zoo_onnx.capture import capture, describe
from zoo_onnx.files import save
from zoo_onnx.plugin import OnnxInt8Options, OnnxOptions
from zoo_onnx.preprocess import with_preprocessing
from zoo_onnx.quantise import quantise
from zoo_onnx.session import CODE, Session

EXAMPLES = 2
"""Images in the batch that a graph is captured with; a batch of one would be taken for a constant."""

TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest: other kernels, other orders of the same sums."""

DECODED_TOLERANCE = 0.05
"""The same from decoded images. Both resize uint8, torch with weights of 16 bits, onnxruntime with weights of 32: about
one pixel in a hundred is rounded to its neighbour. Measured on photos of many sizes, that moved logits by 0.003 for a
trained EfficientNet-Lite0, and by 0.0002 to 0.022 for ten architectures with random weights, most for ResNet-50."""

INT8_TOLERANCE = 0.5
"""The same in 8 bits. It finds what is broken (measured: 0.05 to 0.33); how good it is, the accuracy says."""


def build(options: OnnxOptions) -> "Onnx":
    """Return the exporter of float32 graphs."""
    return Onnx(options)


def build_int8(options: OnnxInt8Options) -> "OnnxInt8":
    """Return the exporter of quantised graphs."""
    return OnnxInt8(options)


class _Graph:
    """What both have in common: onnxruntime runs the file."""

    tolerance: float
    max_drop: float | None = None
    takes: Literal["normalised", "decoded"] = "normalised"

    def __init__(self, name: str, file: str, opset: int) -> None:
        self.name = name
        self.file = file
        self._opset = opset

    def runtime(self, native: zoo.Native) -> str:
        """Onnxruntime: the graph needs no model code and no torch."""
        return "onnxruntime"

    def captured(self, model: zoo.Exportable, fold: bool) -> ModelProto:
        """Return the network's graph, batch norms folded or not. ZooError: torch cannot capture it."""
        network, images = zoo.build_network(model), example(model.input)
        if fold:
            zoo.fold_batchnorm(network, images)
        try:
            return capture(network, images, self._opset)
        except OnnxExporterError as error:
            what = f"{model.native.identity} cannot be captured: {type(error).__name__}: {_first_line(error)}"
            raise zoo.ZooError(what, where=f"[[export]] use = '{self.name}'", hint='export "torchscript"') from error

    def finished(self, graph: ModelProto, model: zoo.Exportable, folder: Path) -> tuple[Path, ...]:
        """Write the graph with what belongs to it: class names, architecture, preprocessing."""
        facts = {"classes": model.classes, "architecture": model.native.identity, "input": asdict(model.input)}
        describe(graph, facts)
        return save(graph, folder / self.file)

    def read(self, model: zoo.Described, folder: Path) -> Callable[[Tensor], Tensor]:
        """Return the file in an onnxruntime session."""
        return Session(folder / self.file)

    def code(self, model: zoo.Described) -> str:
        """Return onnxruntime's call."""
        return CODE.format(file=self.file)


class Onnx(_Graph):
    """The graph in float32; with `preprocess` from decoded images of any size."""

    def __init__(self, options: OnnxOptions) -> None:
        super().__init__("onnx", "model.decoded.onnx" if options.preprocess else "model.onnx", options.opset)
        self._options = options
        self.takes = "decoded" if options.preprocess else "normalised"
        self.tolerance = DECODED_TOLERANCE if options.preprocess else TOLERANCE

    def check(self, model: zoo.Exportable) -> None:
        """Raise ZooError as `zoo.build_network` does, and with `preprocess` as `zoo.Decoded` does."""
        check_network(model)
        if self._options.preprocess:
            zoo.Decoded(nn.Identity(), model.input)

    def write(self, model: zoo.Exportable, folder: Path) -> tuple[Path, ...]:
        """Write the graph. ZooError: see `check`; or torch cannot capture the network."""
        self.check(model)
        graph = self.captured(model, self._options.fold_bn)
        whole = with_preprocessing(graph, model.input) if self._options.preprocess else graph
        return self.finished(whole, model, folder)


class OnnxInt8(_Graph):
    """The graph with convolutions and matrix products in 8 bits."""

    def __init__(self, options: OnnxInt8Options) -> None:
        super().__init__("onnx-int8", "model.int8.onnx", options.opset)
        self._images = options.images
        self.max_drop = options.max_drop
        self.tolerance = INT8_TOLERANCE

    def check(self, model: zoo.Exportable) -> None:
        """Raise ZooError as `zoo.build_network` does, and for a model without training images."""
        check_network(model)
        calibration(model)

    def write(self, model: zoo.Exportable, folder: Path) -> tuple[Path, ...]:
        """Write the quantised graph. ZooError: see `check`; or torch cannot capture the network."""
        self.check(model)
        images = calibration(model)(self._images)
        return self.finished(quantise(self.captured(model, fold=True), images), model, folder)


def calibration(model: zoo.Exportable) -> Callable[[int], Tensor]:
    """Return what gives training images. ZooError: there are none."""
    if model.calibration is None:
        what = "8 bits are fitted to the values that training images have, and there are no training images here"
        raise zoo.ZooError(what, where="[[export]] use = 'onnx-int8'", hint="export from the run, where its data is")
    return model.calibration


def check_network(model: zoo.Exportable) -> None:
    """Raise the ZooError with which `zoo.build_network` refuses a model, without building it."""
    native = replace(model.native, build=_refuse_to_build)
    with suppress(_NotBuilt):
        zoo.build_network(replace(model, native=native, state=dict.fromkeys(model.state, torch.empty(0))))


class _NotBuilt(Exception):  # noqa: N818  no error: it ends a check that passed
    pass


def _refuse_to_build(classes: int) -> nn.Module:
    raise _NotBuilt


def example(spec: zoo.InputSpec) -> Tensor:
    """Return a batch as the preprocessing gives it, always the same."""
    return torch.randn(EXAMPLES, 3, *spec.size, generator=torch.Generator().manual_seed(0))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
