"""What happens in a run, as callbacks see it: small frozen dataclasses. Nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.registry.parts import Direction


@dataclass(frozen=True)
class RunStarted:
    """A run begins or goes on. `history` holds what was evaluated before, when it was resumed."""

    name: str
    folder: Path
    epochs: int
    steps_per_epoch: int
    images_per_epoch: int
    step: int
    best_by: str
    directions: Mapping[str, Direction]
    history: "tuple[Evaluated, ...]"


@dataclass(frozen=True)
class EpochStarted:
    """Epoch `epoch` (from 0) begins, or goes on after `step` steps of the run."""

    epoch: int
    step: int


@dataclass(frozen=True)
class StepEnded:
    """Step `step` (from 1, over the whole run) is done. `loss` is the newest known without waiting on the device."""

    step: int
    epoch: int
    images: int
    lr: float
    loss: float | None


@dataclass(frozen=True)
class Evaluated:
    """The validation split was measured after `epoch` (from 0). `metrics` has `train/loss`, `val/…` and so on."""

    epoch: int
    step: int
    metrics: Mapping[str, float]
    best: bool


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint lies whole in `path`."""

    path: Path
    step: int


@dataclass(frozen=True)
class ArtefactWritten:
    """An exporter wrote `files`, read them back and found them equal to the model within `difference`."""

    exporter: str
    files: tuple[Path, ...]
    difference: float


@dataclass(frozen=True)
class RunEnded:
    """The run is over. `reason` is "finished", "stopped: …" or "interrupted"; `best` is the best evaluation."""

    reason: str
    seconds: float
    best: Evaluated | None
