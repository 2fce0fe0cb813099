"""What happens in a run, as callbacks see it: small frozen dataclasses. Nothing here imports torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.registry.contracts import InputSpec
from zoo.registry.parts import Direction

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn


@dataclass(frozen=True)
class RunStarted:
    """A run begins or goes on. `history` holds what was evaluated before, when it was resumed.

    `recipe` is a copy of the resolved recipe as a plain table, `input` the preprocessing, `classes` the first head's.

    `network()` builds a network of its own on the CPU, in eval mode: from normalised images (B, 3, H, W) to the first
    head's logits (B, K). It has the weights that the run has when it is called; where they are sharded, first values
    in their place. Nothing done to it reaches the run. It takes seconds and waits for the device: not for the hot path.
    """

    name: str
    folder: Path
    epochs: int
    steps_per_epoch: int
    images_per_epoch: int
    step: int
    best_by: str
    directions: Mapping[str, Direction]
    history: "tuple[Evaluated, ...]"
    recipe: Mapping[str, Any]
    classes: tuple[str, ...]
    input: InputSpec
    network: "Callable[[], nn.Module]"


@dataclass(frozen=True)
class EpochStarted:
    """Epoch `epoch` (from 0) begins, or goes on after `step` steps of the run."""

    epoch: int
    step: int


@dataclass(frozen=True)
class StepEnded:
    """Step `step` (from 1, over the whole run) is done. `loss` is the newest known without waiting on the device.

    `rates` are the learning rates of the step by parameter group. A group is named by its multiple of the run's rate
    `lr`: "x0.1"; by those of all phases where there are several: "x0_x0.1".
    """

    step: int
    epoch: int
    images: int
    lr: float
    loss: float | None
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluated:
    """The validation split was measured after `epoch` (from 0).

    `metrics` has `train/loss`, `val/…` and so on; it cannot be changed.
    """

    epoch: int
    step: int
    metrics: Mapping[str, float]
    best: bool


@dataclass(frozen=True)
class Mistake:
    """A validation image that the first head took for another class: `target` and `predicted` are class indices.

    `identity` names the image for people. `probability` (0 to 1) is that of the predicted class. `image()` reads the
    image, upright RGB of its own size; OSError, ValueError: it cannot be read any more.
    """

    identity: str
    target: int
    predicted: int
    probability: float
    image: "Callable[[], Image]"


@dataclass(frozen=True)
class MistakesFound:
    """The worst mistakes of the validation after `epoch` (from 0): the most confident first, at most 16."""

    epoch: int
    step: int
    mistakes: tuple[Mistake, ...]


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
