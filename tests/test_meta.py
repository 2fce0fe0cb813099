"""Models on the meta device, without the work of first values."""

import time
from statistics import median
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision.models import get_model

from zoo.meta import on_meta


def _described(model: nn.Module) -> list[Any]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return [(name, t.shape, t.dtype, t.stride(), t.device.type, t.requires_grad) for name, t in named]


@pytest.mark.parametrize(
    "arch", ["test_resnet", "test_vit", "test_convnext", "swin_tiny_patch4_window7_224", "coatnet_pico_rw_224"]
)
def test_a_model_is_as_torchs_meta_device_makes_it(arch: str) -> None:
    with torch.device("meta"):
        expected = timm.create_model(arch)
    with on_meta():
        model = timm.create_model(arch)
    assert _described(model) == _described(expected)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


def test_torchvisions_models_too() -> None:
    with torch.device("meta"):
        expected = get_model("mobilenet_v3_small", weights=None)
    with on_meta():
        model = get_model("mobilenet_v3_small", weights=None)
    assert _described(model) == _described(expected)


def test_real_tensors_within_the_block_get_their_values() -> None:
    real = torch.zeros(3)
    with on_meta():
        assert torch.empty(2).is_meta
        real.fill_(1.0)
        nn.init.constant_(real[:1], 2.0)
    assert real.tolist() == [2.0, 1.0, 1.0]
    assert not torch.empty(2).is_meta


@pytest.mark.slow
def test_a_large_model_takes_less_than_half_the_time() -> None:
    def seconds(context: Any) -> float:
        started = time.perf_counter()
        with context:
            timm.create_model("vit_large_patch16_224")
        return time.perf_counter() - started

    pairs = [(seconds(on_meta()), seconds(torch.device("meta"))) for _ in range(5)]
    assert median(ours / theirs for ours, theirs in pairs) < 0.5
