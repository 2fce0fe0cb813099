"""The callback: what happens in a run, as points, images and texts of an event file."""

from pathlib import Path

import zoo
from torch.utils.tensorboard import SummaryWriter

from zoo_tensorboard import hyper
from zoo_tensorboard.graph import write_graph
from zoo_tensorboard.mistakes import captioned, table
from zoo_tensorboard.plugin import TensorBoardOptions
from zoo_tensorboard.written import Written, await_turn, read_written

NAME = "tensorboard"


def build(options: TensorBoardOptions, folder: Path) -> "TensorBoard":
    """Return the callback for the run in `folder`. Nothing is written before the run starts."""
    return TensorBoard(options, options.folder or folder / NAME)


class TensorBoard:
    """Writes what a run's events say. A run that goes on adds what is missing, and no point twice."""

    def __init__(self, options: TensorBoardOptions, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._written = Written()
        self._run: zoo.RunStarted | None = None
        self._step = 0

    @zoo.hookimpl
    def run_started(self, event: zoo.RunStarted) -> None:
        """Open the files; of an earlier attempt, what lies beyond `event.step` no longer counts."""
        self._run, self._step = event, event.step
        self._written = read_written(self._folder, event.step) if event.step else Written()
        await_turn(self._folder)
        self._writer = SummaryWriter(str(self._folder), purge_step=event.step + 1)
        for evaluated in event.history:
            self._add_metrics(self._writer, evaluated)
        if not self._written.hyperparameters:
            hyper.write_start(self._writer, event.recipe, [*event.directions, *map(best, event.directions)])
        if self._options.graph and not self._written.graph:
            write_graph(self._writer, event.network(), event.input.size)
        self._writer.flush()

    @zoo.hookimpl
    def step_ended(self, event: zoo.StepEnded) -> None:
        """Add the newest training loss and the groups' rates, every so many steps."""
        self._step = event.step
        if self._writer is None or event.step % self._options.every:
            return
        if event.loss is not None:
            self._add(self._writer, "train/step_loss", event.loss, event.step)
        for name, rate in event.rates.items():
            self._add(self._writer, f"rate/{name}", rate, event.step)

    @zoo.hookimpl
    def evaluated(self, event: zoo.Evaluated) -> None:
        """Add the epoch's metrics."""
        if self._writer is not None:
            self._add_metrics(self._writer, event)
            self._writer.flush()

    @zoo.hookimpl
    def mistakes_found(self, event: zoo.MistakesFound) -> None:
        """Add the worst mistakes: an image each with its caption, and a table that names them."""
        shown = event.mistakes[: self._options.images]
        if self._writer is None or self._run is None or not shown:
            return
        for place, mistake in enumerate(shown, start=1):
            image = captioned(mistake, self._run.classes)
            if image is not None:
                self._writer.add_image(f"mistakes/{place}", image, event.step, dataformats="HWC")
        self._writer.add_text("mistakes", table(shown, self._run.classes), event.step)
        self._writer.flush()

    @zoo.hookimpl
    def run_ended(self, event: zoo.RunEnded) -> None:
        """Add the best metrics, say how the run ended, and close the files."""
        if self._writer is None or self._run is None:
            return
        if event.best is not None and event.reason != "interrupted":
            for name in self._run.directions:
                self._add(self._writer, best(name), event.best.metrics[name], self._step)
        hyper.write_end(self._writer, event.reason)
        self._writer.close()
        self._writer = None

    def _add_metrics(self, writer: SummaryWriter, event: zoo.Evaluated) -> None:
        for name, value in event.metrics.items():
            self._add(writer, name, value, event.step)

    def _add(self, writer: SummaryWriter, tag: str, value: float, step: int) -> None:
        if not self._written.has(tag, step):
            writer.add_scalar(tag, value, step)


def best(metric: str) -> str:
    """Return the tag of a metric's value at the best evaluation."""
    return f"best/{metric}"
