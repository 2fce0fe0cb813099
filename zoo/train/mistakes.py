"""The worst mistakes of a validation, collected on the device while it is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from zoo.data import to_rgb
from zoo.registry.contracts import Split
from zoo.registry.events import Mistake

MOST = 16
"""How many mistakes are kept."""


@dataclass(frozen=True)
class _Rows:
    """Images of a split: whether right (then 0) or how sure of the wrong class (N,), and indices int64 (N,)."""

    probability: Tensor
    target: Tensor
    predicted: Tensor
    indices: Tensor

    def worst(self, count: int) -> "_Rows":
        """Return the first `count` by probability, ties in the order in which they came."""
        order = self.probability.sort(descending=True, stable=True).indices[:count]
        return _Rows(*(column[order] for column in self._columns()))

    def after(self, before: "_Rows") -> "_Rows":
        return _Rows(*map(_joined, before._columns(), self._columns()))

    def _columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.probability, self.target, self.predicted, self.indices


def _joined(before: Tensor, after: Tensor) -> Tensor:
    return torch.cat([before, after])


class Mistakes:
    """Keeps the wrongly classified images that the network was surest of. Adding does not wait for the device."""

    def __init__(self) -> None:
        self._rows: _Rows | None = None

    def add(self, logits: Tensor, target: Tensor, indices: Tensor) -> None:
        """Take in a batch: logits (B, K), class indices (B,), and the images' indices in the split (B,)."""
        probability, predicted = logits.softmax(dim=1).max(dim=1)
        # Logits that are no numbers are the loss's to refuse.
        wrong = (predicted != target) & probability.isfinite()
        rows = _Rows(torch.where(wrong, probability, 0), target, predicted, indices)
        self._rows = (rows.after(self._rows) if self._rows else rows).worst(MOST)

    def of(self, split: Split) -> tuple[Mistake, ...]:
        """Return them as mistakes on `split`, the worst first. Waits for the device."""
        if self._rows is None:
            return ()
        columns = (column.tolist() for column in self._rows._columns())
        return tuple(
            Mistake(split.identity(index), target, predicted, probability, _reader(split, index))
            for probability, target, predicted, index in zip(*columns, strict=True)
            if probability > 0
        )


def _reader(split: Split, index: int) -> Callable[[], Image.Image]:
    return partial(_read, split, index)


def _read(split: Split, index: int) -> Image.Image:
    """A copy: the split may keep the image itself."""
    return to_rgb(split.image(index)).copy()
