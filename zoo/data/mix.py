"""Mixing the images of a batch with each other: mixup and CutMix."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from zoo.data.seeding import seeded


class Mix:
    """Mixup (Zhang et al. 2018), CutMix (Yun et al. 2019), or either at even odds; torchvision's, but pure."""

    def __init__(self, mixup: float, cutmix: float, classes: int) -> None:
        """Take the alphas of the Beta distributions, 0 for off, and the number of classes K."""
        self._ways: list[v2.MixUp | v2.CutMix] = []
        if mixup > 0:
            self._ways.append(v2.MixUp(alpha=mixup, num_classes=classes))
        if cutmix > 0:
            self._ways.append(v2.CutMix(alpha=cutmix, num_classes=classes))

    @property
    def active(self) -> bool:
        """Whether anything is mixed."""
        return bool(self._ways)

    def __call__(self, images: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return images (B, C, H, W) and class probabilities (B, K) float32, each mixed with its neighbour.

        `images` are float, on any device; `targets` int64 (B,). One share is drawn for the batch, a pure function of
        `seed`; the caller's random state is left as it was. With both alphas 0 the arguments come back untouched.
        """
        if not self._ways:
            return images, targets
        with seeded(seed):
            way = self._ways[int(torch.randint(len(self._ways), ()))]
            mixed, probabilities = way(images, targets)
        return mixed, probabilities
