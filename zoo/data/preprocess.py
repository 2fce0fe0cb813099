"""The one preprocessing: train, validation, prediction and export all go through `Preprocess`."""

import math

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from zoo.data.images import MAX_PIXELS, to_rgb
from zoo.registry.contracts import InputSpec

ON_TENSORS = ("bilinear", "bicubic")
"""What torchvision resizes as uint8 tensors: several times as fast as Pillow on a photo, and within 2 of 255 of it, bit
for bit the same in any memory layout. The others are Pillow's."""


class Preprocess:
    """Resizes, crops and normalises as an `InputSpec` says. No randomness: the same image gives the same bits."""

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self._cover = (math.floor(spec.size[0] / spec.crop_pct), math.floor(spec.size[1] / spec.crop_pct))
        self._scales: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def shape(self, image: Image.Image) -> Tensor:
        """Return uint8 (3, H, W): the image, of any mode, resized to cover `size / crop_pct`, centre-cropped.

        Its aspect ratio is kept; sizes are rounded as timm's evaluation rounds them. OSError, ValueError: as `to_rgb`,
        and an image so long and thin that it would be resized to more than `MAX_PIXELS`.
        """
        rgb = to_rgb(image)
        size = self.check(rgb)
        cropped: Tensor = functional.center_crop(resize(rgb, size, self.spec.interpolation), list(self.spec.size))
        return cropped

    def check(self, image: Image.Image) -> tuple[int, int]:
        """Return the (height, width) that an upright image is resized to. ValueError: more than `MAX_PIXELS`."""
        size = covering_size((image.height, image.width), self._cover)
        if size[0] * size[1] > MAX_PIXELS:
            shape = f"{image.width} × {image.height} pixels"
            raise ValueError(f"{shape} are too long and thin to cover {self._cover[1]} × {self._cover[0]}")
        return size

    def normalise(self, images: Tensor) -> Tensor:
        """Return float32 (B, 3, H, W), on the device and in the memory format of `images`, which are uint8.

        Scaled to [0, 1], less the spec's mean, over its standard deviation. TypeError: not uint8, so perhaps normalised
        before.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"images to normalise are uint8, 0 to 255, not {images.dtype}")
        mean, std = self._scale(images.device)
        return images.to(torch.float32).sub_(mean).div_(std)

    def _scale(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._scales:
            mean, std = (torch.tensor(values).mul(255).view(3, 1, 1) for values in (self.spec.mean, self.spec.std))
            self._scales[device] = (mean.to(device), std.to(device))
        return self._scales[device]


def covering_size(size: tuple[int, int], cover: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) to resize `size` to, so that with its aspect ratio it just covers `cover`.

    For a square the shorter side is exact and the longer rounded down (torchvision's Resize); else both are rounded to
    the nearest (timm's ResizeKeepRatio).
    """
    height, width = size
    if cover[0] == cover[1]:
        side = cover[0]
        return (side, side * width // height) if height <= width else (side * height // width, side)
    ratio = min(height / cover[0], width / cover[1])
    return round(height / ratio), round(width / ratio)


def resize(image: Image.Image, size: tuple[int, int], interpolation: str) -> Tensor:
    """Return an RGB image as uint8 (3, height, width) of exactly `size`, antialiased."""
    mode = v2.InterpolationMode(interpolation)
    if interpolation not in ON_TENSORS:
        image = functional.resize(image, list(size), interpolation=mode)
    tensor: Tensor = functional.pil_to_tensor(image)
    return functional.resize(tensor, list(size), interpolation=mode, antialias=True)  # type: ignore[no-any-return]
