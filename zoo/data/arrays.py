"""Images that lie in memory as one array."""

import numpy as np
import numpy.typing as npt
from PIL import Image


class ArraySplit:
    """Images uint8 (N, H, W) grey or (N, H, W, 3) RGB, and their class indices (N,).

    `name` stands before each index in identities: "idx/val" gives "idx/val/17".
    """

    def __init__(self, images: npt.NDArray[np.uint8], targets: npt.NDArray[np.integer], name: str) -> None:
        self._images = images
        self._targets = targets
        self._name = name

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def image(self, index: int) -> Image.Image:
        """Return the image, mode L or RGB."""
        return Image.fromarray(self._images[index])

    def target(self, index: int) -> int:
        """Return the class index."""
        return int(self._targets[index])

    def identity(self, index: int) -> str:
        """Return `name/index`."""
        return f"{self._name}/{index}"
