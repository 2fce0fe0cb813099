"""Early stopping: a pure function of the run's history, so it has nothing to save."""

from collections.abc import Sequence
from pathlib import Path

from zoo.errors import ZooError, nearest
from zoo.registry.builtin.callbacks import EarlyStopOptions
from zoo.registry.events import Evaluated, RunStarted
from zoo.registry.hookspecs import hookimpl


def build(options: EarlyStopOptions, folder: Path) -> "EarlyStop":
    """Return the callback."""
    return EarlyStop(options)


class EarlyStop:
    """Stops a run whose metric has not improved by `min_delta` for `patience` epochs."""

    def __init__(self, options: EarlyStopOptions) -> None:
        self.options = options
        self.metric = options.metric
        self._sign = 1.0

    @hookimpl
    def run_started(self, event: RunStarted) -> None:
        """Learn which metric counts and which direction is better. ZooError: nothing measures it."""
        self.metric = event.best_by if self.options.metric == "best_by" else self.options.metric
        if self.metric not in event.directions:
            hint = nearest(self.metric, event.directions)
            raise ZooError(f"nothing measures {self.metric!r}", where="callback.early-stop.metric", hint=hint)
        self._sign = 1.0 if event.directions[self.metric] == "max" else -1.0

    @hookimpl
    def should_stop(self, history: Sequence[Evaluated]) -> str | None:
        """Return the reason to stop after the newest of `history`, or None."""
        waited = self.waited([evaluated.metrics[self.metric] for evaluated in history])
        if waited < self.options.patience:
            return None
        return f"{self.metric} has not improved for {waited} epoch{'' if waited == 1 else 's'}"

    def waited(self, values: Sequence[float]) -> int:
        """Return how many epochs have passed since the metric last improved by more than `min_delta`."""
        best, since = float("-inf"), 0
        for value in values:
            improved = self._sign * value > best + (self.options.min_delta if best > float("-inf") else 0.0)
            best, since = (self._sign * value, 0) if improved else (best, since + 1)
        return since
