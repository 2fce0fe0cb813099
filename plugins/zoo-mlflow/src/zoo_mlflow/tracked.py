"""One run in MLflow: points that are collected and written together, none of them twice."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from zoo_mlflow.names import TAG, shortened
from zoo_mlflow.store import alone

BATCH = 100
"""How many parameters, or points, go to MLflow at once; it takes no more parameters."""


class Tracked:
    """A run of MLflow's that is going on."""

    def __init__(self, client: Any, run: str) -> None:
        self.client = client
        self.run = run
        self._points: list[Any] = []
        self._there: dict[str, set[int]] = {}

    def go_on(self) -> None:
        """Take the run up again, and learn which points it has."""
        self.client.update_run(self.run, status="RUNNING")
        for name in self.client.get_run(self.run).data.metrics:
            self._there[name] = {point.step for point in self.client.get_metric_history(self.run, name)}

    def parameters(self, values: Mapping[str, str]) -> None:
        """Log parameters. MLflow lets none change: what a resume has changed becomes a tag, `changed.KEY`."""
        from mlflow.entities import Param

        there = self.client.get_run(self.run).data.params
        new = [Param(key, value) for key, value in values.items() if key not in there]
        for start in range(0, len(new), BATCH):
            self.client.log_batch(self.run, params=new[start : start + BATCH])
        changed = {key: value for key, value in values.items() if there.get(key, value) != value}
        self.tags({f"changed.{key}"[:250]: value for key, value in changed.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in values.items():
            self.client.set_tag(self.run, key, shortened(value, TAG))

    def points(self, values: Mapping[str, float], step: int) -> None:
        """Collect values at a step; those that the run has already are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name, value in values.items():
            if step not in self._there.setdefault(name, set()):
                self._there[name].add(step)
                self._points.append(Metric(name, value, now, step))
        if len(self._points) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        points, self._points = self._points, []
        for start in range(0, len(points), BATCH):
            self.client.log_batch(self.run, metrics=points[start : start + BATCH])

    def end(self, status: str, tags: Mapping[str, str]) -> None:
        """Write what was collected, and how the run ended: "FINISHED", "FAILED" or "KILLED"."""
        self.flush()
        self.tags(tags)
        with alone():
            self.client.set_terminated(self.run, status=status)


def experiment(client: Any, name: str, artefacts: str | None) -> str:
    """Return the id of an experiment, made where there is none; `artefacts` is the URI of a new one's artefacts."""
    found = client.get_experiment_by_name(name)
    made: str = found.experiment_id if found else client.create_experiment(name, artifact_location=artefacts)
    return made


def best(metrics: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Return the metrics `names` of the best evaluation under names of their own."""
    return {f"best/{name}": metrics[name] for name in names}
