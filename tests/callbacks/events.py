"""A run's events as callbacks see them."""

from pathlib import Path

from torch import nn

from zoo.registry.contracts import InputSpec
from zoo.registry.events import Evaluated, RunStarted


def started(
    folder: Path = Path("run"), history: tuple[Evaluated, ...] = (), best_by: str = "val/accuracy"
) -> RunStarted:
    """Return the start of a run of two epochs of three steps."""
    return RunStarted(
        name="tiny",
        folder=folder,
        epochs=2,
        steps_per_epoch=3,
        images_per_epoch=20,
        step=3 * len(history),
        best_by=best_by,
        directions={"val/accuracy": "max", "val/loss": "min"},
        history=history,
        recipe={"format": 1, "run": {"name": "tiny"}},
        classes=("a", "b", "c"),
        input=InputSpec(size=(32, 32)),
        network=nn.Identity,
    )


def evaluated(epoch: int, accuracy: float = 0.5, best: bool = False) -> Evaluated:
    """Return the evaluation after `epoch`."""
    metrics = {"train/loss": 1.25, "val/loss": 1.5, "val/accuracy": accuracy, "lr": 0.001}
    return Evaluated(epoch, 3 * (epoch + 1), metrics, best)
