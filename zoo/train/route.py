"""How a phase gets from a batch to logits: through the whole model, or through its heads on features of what is frozen.

A frozen backbone runs without autograd and outside of whatever wraps the model. Where the same image always gives the
same features they are computed once and kept, and an epoch trains the heads alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from zoo.data import Batch, Key, Part, Sample, TrainBatches, ValBatches
from zoo.freeze.frontier import Frontier
from zoo.recipe.schema import DataTable
from zoo.registry.contracts import Strategy
from zoo.train.model import Model

BUDGET = 2 << 30
"""Bytes of memory that the features of both splits may take."""

Step = Callable[[Tensor], Tensor]


class Kept:
    """The features of a split's good images, on the CPU: a source of batches that decodes nothing."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        """Take batches whose images are features."""
        self.features = torch.cat([batch.images for batch in batches])
        self._targets = torch.cat([batch.targets for batch in batches])
        indices = torch.cat([batch.indices for batch in batches])
        self._rows = {index: row for row, index in enumerate(indices.tolist())}
        self._indices = indices

    def load(self, batches: Sequence[list[Key]]) -> Iterator[Batch | None]:
        """Yield a batch of features for each list of keys, without its bad images; None when all are bad."""
        for keys in batches:
            rows = torch.tensor([self._rows[index] for _, index in keys if index in self._rows], dtype=torch.long)
            yield Batch(self.features[rows], self._targets[rows], self._indices[rows]) if len(rows) else None

    def load_here(self, key: Key) -> Sample | None:
        """Return one image's features; None when it is bad."""
        row = self._rows.get(key[1])
        return None if row is None else Sample(self.features[row], int(self._targets[row]), key[1])


@dataclass(frozen=True)
class Route:
    """From a batch's images, sent to the device, to logits.

    `prepare` comes before mixing and `extract` after it; `module` is what the strategy wraps, and is given the result.
    `train` and `val` are kept features, None where images are decoded.
    """

    module: nn.Module
    prepare: Step
    extract: Step
    train: Kept | None = None
    val: Kept | None = None


def find_route(
    model: Model,
    frontier: Frontier,
    normalise: Step,
    strategy: Strategy,
    splits: tuple[TrainBatches, ValBatches],
    *,
    fixed_input: bool,
) -> tuple[Route, str]:
    """Return the route of a phase, and what there is to say about kept features ("" when the backbone trains).

    `fixed_input` says that an image is the same in every epoch and that keeping is wanted. DataError: see `splits`.
    """
    if not frontier.whole:
        return Route(model, normalise, _as_is), ""
    extract = _frozen(model.backbone, strategy)
    route = Route(model.heads, normalise, extract)
    if not fixed_input:
        return route, "computed anew in every epoch"

    def features(part: Part) -> Batch:
        """Each process computes its part, and has all of them."""
        with strategy.autocast():
            found = extract(normalise(strategy.send(part.images)))
        tensors = (found.cpu(), part.targets, part.indices)
        return Batch(*(strategy.collect(tensor[: part.own]) for tensor in tensors))

    train, val = splits
    passing = train.everything()
    try:
        first, reason = _first(next(passing), features, train.images + val.images)
        if reason:
            return route, f"computed anew in every epoch: {reason}"
        kept = Kept([first, *map(features, passing)])
        kept_val = Kept([features(batch) for batch in val])
    finally:
        train.close()
        val.close()
    return Route(model.heads, _as_is, _as_is, kept, kept_val), _describe(kept, kept_val)


def can_keep(table: DataTable) -> bool:
    """Return whether keeping is wanted and an image is the same in every epoch."""
    return table.cache == "auto" and table.augment == "none" and not table.mixup and not table.cutmix


def _first(batch: Part, features: Callable[[Part], Batch], images: int) -> tuple[Batch, str]:
    """The features of the first batch, and why they cannot be kept: two passes over it must agree to the last bit."""
    first, second = features(batch), features(batch)
    if not torch.equal(first.images, second.images):
        return first, "two passes over the same images differ"
    size = prod(first.images.shape[1:]) * first.images.itemsize * images
    return first, f"they would take {_size(size)}, and {_size(BUDGET)} is the most" if size > BUDGET else ""


def _frozen(backbone: nn.Module, strategy: Strategy) -> Step:
    def extract(images: Tensor) -> Tensor:
        with strategy.inference():
            features: Tensor = backbone(images)
        return features.clone()  # a tensor of inference mode cannot be kept for the heads' gradients

    return extract


def _as_is(tensor: Tensor) -> Tensor:
    return tensor


def _describe(train: Kept, val: Kept) -> str:
    counts = f"{len(train.features):,} + {len(val.features):,}"
    shape = " × ".join(map(str, train.features.shape[1:]))
    return f"kept, {counts} × {shape}, {_size(train.features.nbytes + val.features.nbytes)}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
