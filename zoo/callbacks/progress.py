"""Progress: a live bar on a terminal, one plain line an epoch everywhere."""

import logging
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from zoo.registry.events import EpochStarted, Evaluated, RunEnded, RunStarted, StepEnded
from zoo.registry.hookspecs import hookimpl
from zoo.registry.parts import NoOptions

log = logging.getLogger("zoo.progress")


def build(_: NoOptions, folder: Path) -> "ProgressLines":
    """Return the callback. Its lines go to the log `zoo`, its bar to standard error when that is a terminal."""
    return ProgressLines(Console(stderr=True))


class ProgressLines:
    """Says each epoch's metrics, images per second and time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._run: RunStarted | None = None
        self._images = 0
        self._started = 0.0
        self._rate = 0.0

    @hookimpl
    def run_started(self, event: RunStarted) -> None:
        """Begin the bar, when there is a terminal to draw it on."""
        self._run = event
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
            total = event.epochs * event.steps_per_epoch
            self._task = self._bar.add_task("", total=total, completed=event.step, now="")
            self._bar.start()

    @hookimpl
    def epoch_started(self, event: EpochStarted) -> None:
        """Begin to count this epoch's images."""
        self._images, self._started = 0, perf_counter()
        if self._bar and self._run:
            self._bar.update(self._task, description=f"epoch {event.epoch + 1}/{self._run.epochs}")

    @hookimpl
    def step_ended(self, event: StepEnded) -> None:
        """Move the bar."""
        self._images += event.images
        self._rate = self._images / max(1e-9, perf_counter() - self._started)
        if self._bar:
            loss = "" if event.loss is None else f"loss {event.loss:.3f}  "
            self._bar.update(self._task, completed=event.step, now=f"{loss}{self._rate:.0f} images/s")

    @hookimpl
    def evaluated(self, event: Evaluated) -> None:
        """Say the epoch's line."""
        epochs = self._run.epochs if self._run else event.epoch + 1
        seconds = perf_counter() - self._started
        left = seconds * (epochs - event.epoch - 1)
        star = "  best" if event.best else ""
        text = f"epoch {event.epoch + 1}/{epochs}  {describe(event.metrics)}  {self._rate:.0f} images/s"
        log.info("%s%s%s", text, f"  {clock(left)} left" if left else "", star)

    @hookimpl
    def run_ended(self, event: RunEnded) -> None:
        """End the bar."""
        if self._bar:
            self._bar.stop()


def describe(metrics: Mapping[str, float]) -> str:
    """Return losses and validation metrics in a line: losses with four digits, shares in percent."""
    words = []
    for name, value in metrics.items():
        if name.endswith("loss"):
            words.append(f"{name} {value:.4f}")
        elif name.startswith("val/"):
            words.append(f"{name} {100 * value:.2f} %" if 0 <= value <= 1 else f"{name} {value:.4g}")
    return "  ".join(words)


def clock(seconds: float) -> str:
    """Return a duration as people write it: 42 s, 3 min 05 s, 1 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
