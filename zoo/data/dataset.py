"""One sample: decoded, sized and augmented as a pure function of (seed, epoch, index), in whatever process."""

from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

from zoo.data.augment import Augmentation
from zoo.data.seeding import seeded
from zoo.registry.contracts import Split
from zoo.seeds import derive

Key = tuple[int, int]
"""(epoch, index in the split)."""


@dataclass(frozen=True)
class Sample:
    """An image uint8 (3, H, W), its class index, and its index in the split."""

    image: Tensor
    target: int
    index: int


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be used: its index in the split, what names it, and why."""

    index: int
    identity: str
    reason: str


class ImageDataset(Dataset[Sample | BadImage]):
    """A split's images, augmented. The key (epoch, index) alone decides what is drawn, not the worker or order."""

    def __init__(self, split: Split, augment: Augmentation, seed: int) -> None:
        self.split = split
        self._augment = augment
        self._seed = seed

    def __getitem__(self, key: Key) -> Sample | BadImage:
        """Return the sample, or what is wrong with its image. The caller's random state is left as it was."""
        epoch, index = key
        try:
            image = self.split.image(index)
            with seeded(derive(self._seed, "augment", epoch, index)):
                return Sample(self._augment(image), self.split.target(index), index)
        except (OSError, ValueError) as error:
            return BadImage(index, self.split.identity(index), str(error) or type(error).__name__)
