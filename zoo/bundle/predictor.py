"""A model that answers: from a path, bytes, an image or an array to class names and their probabilities."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from zoo.data import Preprocess, open_image, to_rgb
from zoo.registry.contracts import InputSpec

BATCH = 32
"""Images that go through the network at once."""
DECODERS = 2
"""Threads that decode. Pillow and torchvision let go of Python's lock, and the network has threads of its own."""

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Prediction:
    """An image's likeliest classes with their probabilities in 0 to 1, the likeliest first."""

    classes: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        """The likeliest class."""
        return self.classes[0][0]


class Predictor:
    """A network with its preprocessing and class names.

    An image is a path, the file's bytes, a PIL image, a uint8 array (H, W), (H, W, 3) or (H, W, 4), or a uint8 tensor
    (3, H, W) or (1, H, W); 0 to 255, RGB. Alone it gets one answer; a list or tuple of them, or an array or tensor of
    four dimensions, gets a list of answers.
    """

    def __init__(
        self,
        network: Network,
        spec: InputSpec,
        classes: Sequence[str],
        takes: Literal["normalised", "decoded"] = "normalised",
        device: torch.device | None = None,
    ) -> None:
        self.input = spec
        self.classes = tuple(classes)
        self.takes = takes
        self._network = network
        self._device = device or torch.device("cpu")
        self._preprocess = Preprocess(spec)

    def __call__(self, images: Any, top: int = 1) -> Any:
        """Return a `Prediction` with `top` classes for one image, a list of them for several.

        OSError, ValueError: an image cannot be decoded. TypeError: it is none.
        """
        several = _several(images)
        if several is None:
            return self._answers(self.logits([self.decode(images)]), top)[0]
        return self._answers(self.logits([self.decode(image) for image in several]), top)

    def decode(self, image: Any) -> Tensor:
        """Return one image as the network's batches are made of it: uint8 (3, H, W), of the network's size.

        For a network that preprocesses itself the size is the image's own. OSError, ValueError, TypeError: as above.
        """
        decoded = _as_image(image)
        if not decoded.width or not decoded.height:
            raise ValueError(f"an image of {decoded.width} × {decoded.height} pixels shows nothing")
        if self.takes == "normalised":
            return self._preprocess.shape(decoded)
        upright = to_rgb(decoded)
        self._preprocess.check(upright)
        pixels: Tensor = pil_to_tensor(upright)
        return pixels

    @torch.inference_mode()
    def logits(self, images: Sequence[Tensor]) -> Tensor:
        """Return logits float32 (B, K) on the CPU, in the order of `classes`, for what `decode` gave."""
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        found = [self._compute(batch) for batch in batches]
        return torch.cat(found) if found else torch.zeros(0, len(self.classes))

    def many(self, images: Iterable[Any], top: int = 1) -> Iterator[Prediction | Exception]:
        """Yield an answer for each image, in order, or the OSError, ValueError or TypeError that says why not.

        Images are decoded in threads while the network works; about three batches are in memory at a time, or a few
        images where the network takes them in their own size.
        """
        for found in self.many_logits(images):
            yield self._answers(found[None], top)[0] if isinstance(found, Tensor) else found

    def many_logits(self, images: Iterable[Any]) -> Iterator[Tensor | Exception]:
        """Yield logits (K,) for each image, or why there are none, as `many` does."""
        source, size = iter(images), BATCH if self.takes == "normalised" else DECODERS
        with ThreadPoolExecutor(DECODERS) as pool:
            waiting = [pool.submit(self._decoded, image) for image in islice(source, 2 * size)]
            while waiting:
                ready = [future.result() for future in waiting[:size]]
                waiting = waiting[size:] + [pool.submit(self._decoded, image) for image in islice(source, size)]
                yield from self._mixed(ready)

    def _decoded(self, image: Any) -> Tensor | Exception:
        try:
            return self.decode(image)
        except (OSError, ValueError, TypeError) as error:
            return error

    def _mixed(self, ready: Sequence[Tensor | Exception]) -> Iterator[Tensor | Exception]:
        rows = iter(self.logits([image for image in ready if isinstance(image, Tensor)]))
        for image in ready:
            yield next(rows) if isinstance(image, Tensor) else image

    def _compute(self, batch: Sequence[Tensor]) -> Tensor:
        if self.takes == "decoded":
            return torch.cat([self._network(image[None]).float().cpu() for image in batch])
        stacked = torch.stack(tuple(batch)).to(self._device)
        return self._network(self._preprocess.normalise(stacked)).float().cpu()

    def _answers(self, logits: Tensor, top: int) -> list[Prediction]:
        if top < 1:
            raise ValueError(f"top = {top}: an answer has at least one class")
        shares, places = logits.softmax(dim=1).topk(min(top, len(self.classes)))
        return [
            Prediction(tuple((self.classes[place], share) for place, share in zip(which, row, strict=True)))
            for row, which in zip(shares.tolist(), places.tolist(), strict=True)
        ]


def _several(images: Any) -> Sequence[Any] | None:
    """Return the images of a list, tuple, or batch in one array or tensor; None when it is one image."""
    if isinstance(images, list | tuple):
        return images
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
        return list(images)
    return None


def _as_image(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, str | Path):
        return open_image(Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return open_image(BytesIO(bytes(image)))
    if isinstance(image, Tensor):
        image = _pixels(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    raise TypeError(f"{type(image).__name__} is no image: give a path, bytes, a PIL image, an array or a tensor")


def _pixels(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor (C, H, W) as an array (H, W, C)."""
    if tensor.dtype != torch.uint8:  # before numpy, which does not have them all
        raise TypeError(f"{str(tensor.dtype).removeprefix('torch.')} values are no image: give uint8, 0 to 255")
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise TypeError(f"a tensor of shape {tuple(tensor.shape)} is no image: give uint8 (3, H, W) or (1, H, W)")
    array: np.ndarray[Any, Any] = tensor.cpu().permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[2] == 1 else array


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if array.dtype != np.uint8:
        raise TypeError(f"{array.dtype} values are no image: give uint8, 0 to 255")
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)):
        return Image.fromarray(np.ascontiguousarray(array))
    raise TypeError(f"an array of shape {array.shape} is no image: give (H, W), (H, W, 3) or (H, W, 4)")
