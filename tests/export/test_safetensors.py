"""The artefact loads into the library's own model, strictly, and gives the model's logits."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.train.tiny import make_backbone, make_model
from zoo.backbones.torchvision import build as build_torchvision
from zoo.errors import ZooError
from zoo.export import export_verified
from zoo.export.safetensors import Safetensors, build
from zoo.registry.builtin.backbones import TorchvisionOptions
from zoo.registry.builtin.export import SafetensorsOptions
from zoo.registry.contracts import Backbone, Exportable, InputSpec
from zoo.train.model import native_names, native_state

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CLASSES = ("Äpfel", "pears", "plums")


def prepare(backbone: Backbone) -> tuple[Exportable, Callable[[Tensor], Tensor]]:
    """Return a model whose batch norms have seen images, ready to export, and its logits."""
    model = make_model(backbone).train()
    model(IMAGES)
    model.eval()
    state = native_state(model, native_names(model, backbone, "main"))
    exportable = Exportable(
        state, backbone.native, InputSpec((32, 32)), CLASSES, facts={"zoo": "0.1", "metrics": {"a": 0.5}}
    )
    return exportable, lambda images: model(images)["main"]


def torchvision_backbone(arch: str) -> Backbone:
    return build_torchvision(TorchvisionOptions(arch=arch), (64, 64))


def check_native(folder: Path, plain: nn.Module, eager: Callable[[Tensor], Tensor]) -> None:
    plain.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    with torch.inference_mode():
        torch.testing.assert_close(plain.eval()(IMAGES), eager(IMAGES), rtol=0, atol=1e-5)


def test_timm_loads_it_without_zoo(tmp_path: Path) -> None:
    model, eager = prepare(make_backbone())
    written = export_verified(build(SafetensorsOptions()), model, eager, IMAGES, tmp_path / "out")
    assert written.exporter == "safetensors"
    assert written.files == (tmp_path / "out" / "model.safetensors", tmp_path / "out" / "model.json")
    assert written.difference <= 1e-5
    check_native(tmp_path / "out", timm.create_model("test_resnet", num_classes=3), eager)


def test_torchvision_loads_it_without_zoo(tmp_path: Path) -> None:
    model, eager = prepare(torchvision_backbone("resnet18"))
    export_verified(build(SafetensorsOptions()), model, eager, IMAGES, tmp_path / "out")
    check_native(tmp_path / "out", torchvision.models.resnet18(num_classes=3), eager)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_half_precision(tmp_path: Path, dtype: Any, tolerance: float) -> None:
    model, eager = prepare(make_backbone())
    written = export_verified(build(SafetensorsOptions(dtype=dtype)), model, eager, IMAGES, tmp_path / "out")
    assert 0 < written.difference <= tolerance
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype), torch.int64}


def test_what_belongs_to_the_weights_lies_beside_them(tmp_path: Path) -> None:
    model, eager = prepare(make_backbone())
    export_verified(build(SafetensorsOptions()), model, eager, IMAGES, tmp_path / "out")
    text = (tmp_path / "out" / "model.json").read_text(encoding="utf-8")
    assert "Äpfel" in text
    assert json.loads(text) == {
        "architecture": "timm/test_resnet",
        "build": 'timm.create_model("test_resnet", num_classes=3)',
        "input": {
            "size": [32, 32],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bicubic",
            "crop_pct": 0.875,
        },
        "classes": list(CLASSES),
        "zoo": "0.1",
        "metrics": {"a": 0.5},
    }


def test_an_architecture_without_a_linear_classifier(tmp_path: Path) -> None:
    model, eager = prepare(torchvision_backbone("squeezenet1_1"))
    with pytest.raises(ZooError) as caught:
        export_verified(build(SafetensorsOptions()), model, eager, IMAGES, tmp_path / "out")
    assert str(caught.value) == (
        "torchvision/squeezenet1_1 has no single linear classifier that this head could be written as\n"
        "  where: [[export]]\n  mend:  choose an architecture that has one, or write `export = []` for no artefact"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_head_without_a_native_form(tmp_path: Path) -> None:
    model, eager = prepare(make_backbone())
    state = {name: tensor for name, tensor in model.state.items() if not name.startswith("fc.")}
    headless = Exportable(state, model.native, model.input, model.classes)
    with pytest.raises(ZooError, match=r"^timm/test_resnet has no single linear classifier that this head"):
        export_verified(build(SafetensorsOptions()), headless, eager, IMAGES, tmp_path / "out")


class Noisy(Safetensors):
    """A broken exporter: what it writes is not the model."""

    def write(self, model: Exportable, folder: Path) -> tuple[Path, ...]:
        state = {name: t + 0.1 if t.is_floating_point() else t for name, t in model.state.items()}
        return super().write(Exportable(state, model.native, model.input, model.classes), folder)


class Silent(Safetensors):
    """A broken exporter: what is read back gives no numbers."""

    def read(self, model: Exportable, folder: Path) -> Callable[[Tensor], Tensor]:
        return lambda images: torch.full((len(images), len(model.classes)), float("nan"))


@pytest.mark.parametrize("kind", [Noisy, Silent])
def test_an_artefact_that_differs_is_refused_and_the_folder_is_as_it_was(
    tmp_path: Path, kind: type[Safetensors]
) -> None:
    model, eager = prepare(make_backbone())
    folder = tmp_path / "out"
    export_verified(build(SafetensorsOptions()), model, eager, IMAGES, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ZooError) as caught:
        export_verified(kind(SafetensorsOptions()), model, eager, IMAGES, folder)
    first, mend = str(caught.value).split("\n")
    number = r"(nan|[\d.e+-]+)"
    pattern = f"safetensors: the artefact's logits differ from the model's by {number} of the largest, more than 1e-05"
    assert re.fullmatch(pattern, first), first
    assert mend == "  mend:  nothing was written; please report this"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]
