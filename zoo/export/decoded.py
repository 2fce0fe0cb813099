"""A network that takes decoded images of any size: resizing, cropping and normalising are in its graph."""

import math

import torch
from torch import Tensor, nn
from torch._jit_internal import is_scripting
from torch.nn.functional import interpolate

from zoo.errors import ZooError
from zoo.registry.contracts import InputSpec

INTERPOLATIONS = ("bilinear", "bicubic")
"""Those that torch has as one operation on uint8, as the preprocessing uses it."""


class Decoded(nn.Module):
    """Maps uint8 RGB (B, 3, any H, any W) to logits (B, K), with the very operations of zoo's preprocessing."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: InputSpec) -> None:
        """Take the network and the preprocessing it expects. ZooError: see `check_spec`."""
        super().__init__()
        check_spec(spec)
        self.network = network
        self.height, self.width = spec.size
        self.cover = math.floor(spec.size[0] / spec.crop_pct)
        self.mode: str = spec.interpolation
        mean, std = (torch.tensor(values).mul(255).view(3, 1, 1) for values in (spec.mean, spec.std))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K)."""
        height, width = images.shape[2], images.shape[3]
        shorter = min(height, width) if is_scripting() else torch.sym_min(height, width)
        size = [self.cover * height // shorter, self.cover * width // shorter]
        resized = interpolate(images, size, mode=self.mode, align_corners=False, antialias=True)
        top, left = _half(size[0] - self.height), _half(size[1] - self.width)
        cropped = resized[:, :, top : top + self.height, left : left + self.width]
        scaled = (cropped.to(torch.float32) - self.mean) / self.std
        logits: Tensor = self.network(scaled)
        return logits


def _half(pixels: int) -> int:
    """Return the half, rounded to the even number as Python's `round` and so torchvision's crop round it."""
    return (pixels + pixels // 2 % 2) // 2


def check_spec(spec: InputSpec) -> None:
    """Raise ZooError where the preprocessing cannot be in a graph: sides that differ, Pillow's interpolations."""
    where = "[[export]] preprocess"
    if spec.size[0] != spec.size[1]:
        what = f"images of {spec.size[0]} × {spec.size[1]} are not resized in a graph: only square ones are"
        raise ZooError(what, where, "leave `preprocess` out")
    if spec.interpolation not in INTERPOLATIONS:
        what = f"interpolation {spec.interpolation!r} is Pillow's: a graph has bilinear and bicubic"
        raise ZooError(what, where, "leave `preprocess` out")
