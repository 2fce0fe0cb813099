"""From a network to an ONNX graph that is the same, to the last byte, whenever it is made."""

import json
import warnings
from collections.abc import Mapping
from typing import Any

import onnxscript.optimizer
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.export import Dim

INPUT = "images"
OUTPUT = "logits"
PRODUCER = "zoo-onnx"


def capture(network: nn.Module, images: Tensor, opset: int) -> ModelProto:
    """Return the graph of a network in eval mode, from float32 `images` (any B, C, H, W) to `logits` (B, K).

    Constants are folded; batch norms stay as they are. torch.onnx.OnnxExporterError: the network cannot be captured.
    """
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        program = _program(network, images, opset)
        onnxscript.optimizer.inline(program.model)
        onnxscript.optimizer.fold_constants(program.model)
        onnxscript.optimizer.remove_unused_nodes(program.model)
        model: ModelProto = program.model_proto
    strip(model)
    return model


def _program(network: nn.Module, images: Tensor, opset: int) -> Any:
    return torch.onnx.export(
        network.requires_grad_(False),
        (images,),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=opset,
        dynamic_shapes=({0: Dim("batch")},),
        dynamo=True,
        optimize=False,
        verbose=False,
    )


def strip(model: ModelProto) -> None:
    """Remove, in place, what says where and by what the graph was made: stack traces, paths, names of modules."""
    graph = model.graph
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, "", ""
    graph.name, graph.doc_string = "network", ""
    del graph.value_info[:]
    _import_once(model)
    for part in (model, graph, *graph.input, *graph.output, *graph.node, *graph.initializer):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    for count, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{count}"


def _import_once(model: ModelProto) -> None:
    """Leave of the operators' versions what the nodes use, each once."""
    used = {node.domain for node in model.graph.node}
    versions = {entry.domain: entry.version for entry in model.opset_import if entry.domain in used}
    model.ClearField("opset_import")
    for domain, version in versions.items():
        model.opset_import.add(domain=domain, version=version)


def describe(model: ModelProto, facts: Mapping[str, Any]) -> None:
    """Put facts into the model's metadata, in place: strings as they are, anything else as JSON."""
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=key, value=text)
