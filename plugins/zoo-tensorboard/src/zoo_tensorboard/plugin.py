"""What the plugin offers. TensorBoard is not imported until the callback is built."""

from collections.abc import Iterable
from pathlib import Path

import zoo
from pydantic import Field


class TensorBoardOptions(zoo.Options):
    """Event files for TensorBoard."""

    folder: Path | None = None
    """Where the event files go; `RUN/tensorboard` when it is left out. Two runs need two folders."""
    every: int = Field(10, ge=1)
    """Steps between two points of the training loss and of the learning rates."""
    images: int = Field(8, ge=0, le=16)
    """How many of the worst mistakes of each validation are shown."""
    graph: bool = True
    """Whether the network's graph is written at the start of the run."""


PARTS = (
    zoo.CallbackPart(
        "tensorboard",
        build="zoo_tensorboard.callback:build",
        options=TensorBoardOptions,
        summary="metrics, rates, the worst mistakes, the graph and hyperparameters for TensorBoard",
    ),
)


@zoo.hookimpl
def zoo_callbacks() -> Iterable[zoo.CallbackPart]:
    """Offer the callback."""
    return PARTS
