"""Small models with lived-in batch norms, ready to export, and the logits that they give."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.train.tiny import make_backbone, make_model
from zoo.backbones.torchvision import build as build_torchvision
from zoo.registry.builtin.backbones import TorchvisionOptions
from zoo.registry.contracts import Backbone, Exportable, InputSpec
from zoo.train.model import native_names, native_state

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CLASSES = ("Äpfel", "pears", "plums")


def prepare(backbone: Backbone | None = None, **changes: Any) -> tuple[Exportable, Callable[[Tensor], Tensor]]:
    """Return a model whose batch norms have seen images, and its logits; `changes` are fields of the Exportable."""
    backbone = backbone or make_backbone()
    model = make_model(backbone).train()
    model(IMAGES)
    model.eval()
    state = native_state(model, native_names(model, backbone, "main"))
    plain = Exportable(native=backbone.native, input=InputSpec((32, 32)), classes=CLASSES, state=state)
    return replace(plain, **changes), lambda images: model(images)["main"]


def torchvision_backbone(arch: str) -> Backbone:
    """Return one of torchvision's, for 64 px, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_torchvision(TorchvisionOptions(arch=arch), (64, 64))
