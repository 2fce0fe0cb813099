"""model.safetensors under the architecture's native names, and model.json with what belongs to it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.errors import ZooError
from zoo.registry.builtin.export import SafetensorsOptions
from zoo.registry.contracts import Exportable

TOLERANCES = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference of a logit, relative to the largest: rounding of the sums for float32 (8-bit and 11-bit mantissas
for the others, over a network's depth)."""


def build(options: SafetensorsOptions) -> "Safetensors":
    """Return the exporter."""
    return Safetensors(options)


class Safetensors:
    """Weights that `timm.create_model` or `torchvision.models` load with strict=True, zoo not installed."""

    name = "safetensors"

    def __init__(self, options: SafetensorsOptions) -> None:
        self.dtype: torch.dtype = getattr(torch, options.dtype)
        self.tolerance = TOLERANCES[options.dtype]

    def check(self, model: Exportable) -> None:
        """Raise ZooError for several heads, and for an architecture or head that is not one linear classifier."""
        if len(model.heads) > 1:
            what = f"native names hold one classifier, and there are the heads {', '.join(model.heads)}"
            raise ZooError(what, where="[[export]]", hint="train one head, or write `export = []` for no artefact")
        if f"{model.native.classifier}.weight" not in model.state:
            what = f"{model.native.identity} has no single linear classifier that this head could be written as"
            hint = "choose an architecture that has one, or write `export = []` for no artefact"
            raise ZooError(what, where="[[export]]", hint=hint)

    def write(self, model: Exportable, folder: Path) -> tuple[Path, ...]:
        """Write the weights, what is needed beside them, and the ledger. ZooError: see `check`."""
        self.check(model)
        weights, facts = folder / "model.safetensors", folder / "model.json"
        save_file({name: self._typed(tensor) for name, tensor in model.state.items()}, weights)
        _write_json(facts, describe(model))
        if model.ledger is None:
            return weights, facts
        _write_json(folder / "load.json", model.ledger)
        return weights, facts, folder / "load.json"

    def read(self, model: Exportable, folder: Path) -> Callable[[Tensor], Tensor]:
        """Return the library's own model with the file's weights, loaded with strict=True."""
        network = model.native.build(len(model.classes))
        network.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        return network.eval()

    def _typed(self, tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu().contiguous()
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def describe(model: Exportable) -> dict[str, Any]:
    """Return what is needed beside the weights: architecture, how to build it, preprocessing, class names, facts."""
    return {
        "architecture": model.native.identity,
        "build": model.native.code.replace("num_classes=classes", f"num_classes={len(model.classes)}"),
        "input": asdict(model.input),
        "classes": list(model.classes),
        **model.facts,
    }
