"""Measure a model on validation batches: every image exactly once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from zoo.errors import RunError
from zoo.registry.contracts import Strategy
from zoo.train.mistakes import Mistakes
from zoo.train.model import Model

Forward = Callable[[Tensor], Mapping[str, Tensor]]


class LabelledBatch(Protocol):
    """A batch of uint8 images (B, 3, H, W), class indices (B,) and places in the split (B,); the first `own` count."""

    @property
    def images(self) -> Tensor:
        """The images."""
        ...

    @property
    def targets(self) -> Tensor:
        """The class indices."""
        ...

    @property
    def indices(self) -> Tensor:
        """The images' indices in the split."""
        ...

    @property
    def own(self) -> int:
        """How many images count."""
        ...


def evaluate(
    model: Model,
    batches: Iterable[LabelledBatch],
    forward: Forward,
    strategy: Strategy,
    expected: Callable[[], int],
    watch: Callable[[Mapping[str, Tensor]], None] = lambda logits: None,
    mistakes: Mistakes | None = None,
) -> dict[str, float]:
    """Return `val/loss` and every head's metrics over `batches`, the model left in the mode it was in.

    `forward` gives every head's logits for a batch's images on the device: the model, or its heads on kept features.
    Each process computes its part of a batch; every one sees all logits, in the order of the images, as `watch` does.
    `mistakes` takes in the first head's; where it is given, all processes give it.
    RunError: not as many images came as `expected()` says afterwards (skipped ones taken off).
    """
    training = model.training
    model.eval()
    try:
        with strategy.inference():
            measured = _measure(model, batches, forward, strategy, watch, mistakes)
    finally:
        model.train(training)
    seen = int(measured.pop("images"))
    if seen != expected():
        raise RunError(f"validation saw {seen} images, and there are {expected()}", hint="the data source is at fault")
    return measured


def _measure(
    model: Model,
    batches: Iterable[LabelledBatch],
    forward: Forward,
    strategy: Strategy,
    watch: Callable[[Mapping[str, Tensor]], None],
    mistakes: Mistakes | None,
) -> dict[str, float]:
    metrics = {name: dict(model.head(name).metrics()) for name in model.heads}
    for metric in (metric for group in metrics.values() for metric in group.values()):
        metric.distributed_available_fn = lambda: False  # every process has seen every image: there is nothing to add
        metric.to(strategy.device)
    loss = torch.zeros((), dtype=torch.float64 if strategy.device.type != "mps" else None, device=strategy.device)
    images, first = 0, next(iter(metrics))
    for batch in batches:
        target = strategy.send(batch.targets)
        with strategy.autocast():
            logits = forward(strategy.send(batch.images))
            losses = model.loss(logits, target)
        loss += strategy.collect(losses[: batch.own]).sum()
        target = strategy.collect(target[: batch.own])
        found = {name: strategy.collect(logits[name][: batch.own].float()) for name in metrics}
        if not len(target):  # all of it bad, in every process
            continue
        watch(found)
        if mistakes is not None:
            indices = strategy.collect(strategy.send(batch.indices[: batch.own]))
            mistakes.add(found[first], model.target(first, target), indices)
        for name, group in metrics.items():
            for metric in group.values():
                metric.update(found[name], model.target(name, target))
        images += len(target)
    measured = {"val/loss": float(loss) / max(1, images)}
    for name, group in metrics.items():
        prefix = "val" if len(metrics) == 1 else f"val/{name}"
        measured |= {f"{prefix}/{key}": float(metric.compute()) for key, metric in group.items()}
    return {**measured, "images": images}
