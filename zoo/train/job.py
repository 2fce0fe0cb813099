"""What a fit is given, and where it stands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.data import Mix, TrainBatches, ValBatches
from zoo.freeze.plan import Phase
from zoo.recipe.schema import CheckpointTable, OptimTable, RunTable, Schedule
from zoo.registry.contracts import InputSpec, Layout, Strategy
from zoo.registry.events import Evaluated
from zoo.registry.parts import Direction
from zoo.train.checkpoint import Checkpoints
from zoo.train.model import Model


@dataclass(frozen=True)
class Job:
    """All that a fit needs, built and placed."""

    run: RunTable
    optim: OptimTable
    schedule: Schedule
    checkpoint: CheckpointTable
    model: Model
    optimizer: Optimizer
    strategy: Strategy
    train: TrainBatches
    val: ValBatches
    val_images: int
    normalise: Callable[[Tensor], Tensor]
    mix: Mix
    checkpoints: Checkpoints
    directions: dict[str, Direction]
    layout: Layout
    phases: tuple[Phase, ...]
    """What trains when; the model follows the first one."""
    keep: bool
    """Whether an image is the same in every epoch, and features that cannot change may be kept."""
    average: ModelEmaV3 | None
    """The moving average of the model, placed as it is."""
    events: Any
    """The hook caller of the run's callbacks (`zoo.registry.hookspecs.RunEvents`)."""
    about: "About"
    """What callbacks are told of the run beside where it stands."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What travels with the weights in every checkpoint."""
    tell: Callable[[str, str], None] = lambda label, text: None
    """Takes what there is to say while it runs: what it is about, and a line."""
    resume_command: str = "zoo finetune --resume RUN"


@dataclass(frozen=True)
class About:
    """The resolved recipe as a plain table, the first head's classes, the preprocessing, and `RunStarted.network`."""

    recipe: Mapping[str, Any]
    classes: tuple[str, ...]
    input: InputSpec
    network: Callable[[], nn.Module]


@dataclass
class Progress:
    """Where a run stands, in all processes. `step` counts its optimiser steps, `images` those of this epoch so far."""

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    images: int = 0
    history: list[Evaluated] = field(default_factory=list)

    def best(self) -> Evaluated | None:
        """Return the best evaluation so far."""
        return next((evaluated for evaluated in reversed(self.history) if evaluated.best), None)
