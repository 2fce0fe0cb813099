"""The callback: what happens in a run, as parameters, metrics, tags and artefacts of a run in MLflow."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zoo

from zoo_mlflow.names import parameters
from zoo_mlflow.plugin import MlflowOptions
from zoo_mlflow.store import Note, artefacts_of, connect, load, new_database, read_note, write_note
from zoo_mlflow.tracked import Tracked, best, experiment

NAME = "mlflow"
log = logging.getLogger("zoo.mlflow")


def build(options: MlflowOptions, folder: Path) -> "Mlflow":
    """Return the callback for the run in `folder`. Nothing is written before the run starts."""
    load()
    return Mlflow(options, folder / NAME)


class Mlflow:
    """Tracks a run. One that goes on is the same run in MLflow, and no point is doubled."""

    def __init__(self, options: MlflowOptions, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._tracked: Tracked | None = None
        self._run: zoo.RunStarted | None = None
        self._step = 0
        self._copied = False

    @zoo.hookimpl
    def run_started(self, event: zoo.RunStarted) -> None:
        """Find or make the run in MLflow. ZooError: the store refuses it, or does not answer."""
        self._run, self._step = event, event.step
        with self._asking():
            tracked = self._open(event)
            tracked.parameters(dict(parameters(event.recipe)))
            where = str(event.folder.absolute())
            tracked.tags({"zoo.version": zoo.__version__, "zoo.folder": where, "zoo.classes": _json(event.classes)})
            for evaluated in event.history:
                tracked.points(evaluated.metrics, evaluated.step)
            tracked.flush()
            if self._options.artefacts:
                tracked.client.log_artifact(tracked.run, str(event.folder / "recipe.toml"))
        self._tracked = tracked

    def _open(self, event: zoo.RunStarted) -> Tracked:
        note = read_note(self._folder)
        asked = self._options.tracking_uri
        if note is not None and (asked == note.store):
            tracked = Tracked(connect(self._folder, note.store, note.database), note.run)
            tracked.go_on()
            return tracked
        self._folder.mkdir(exist_ok=True)
        database = new_database(self._folder)
        client = connect(self._folder, asked, database)
        beside = artefacts_of(self._folder, asked)
        made = client.create_run(experiment(client, self._options.experiment, beside), run_name=event.name)
        write_note(self._folder, Note(made.info.run_id, asked, database))
        return Tracked(client, made.info.run_id)

    @zoo.hookimpl
    def step_ended(self, event: zoo.StepEnded) -> None:
        """Collect the newest training loss and the groups' rates, every so many steps."""
        self._step = event.step
        if self._tracked is None or event.step % self._options.every:
            return
        loss = {} if event.loss is None else {"train/step_loss": event.loss}
        rates = {f"rate/{name}": rate for name, rate in event.rates.items()}
        with self._asking():
            self._tracked.points({**loss, **rates}, event.step)

    @zoo.hookimpl
    def evaluated(self, event: zoo.Evaluated) -> None:
        """Log the epoch's metrics, and what was collected since."""
        if self._tracked is not None:
            with self._asking():
                self._tracked.points(event.metrics, event.step)
                self._tracked.flush()

    @zoo.hookimpl
    def run_ended(self, event: zoo.RunEnded) -> None:
        """Log the best metrics and how the run ended. The run is over: what MLflow refuses now is only said."""
        if self._tracked is None or self._run is None:
            return
        with self._saying():
            if event.best is not None and event.reason != "interrupted":
                self._tracked.points(best(event.best.metrics, list(self._run.directions)), self._step)
            self._tracked.end(_status(event.reason), {"zoo.reason": event.reason})

    @zoo.hookimpl
    def artefact_written(self, event: zoo.ArtefactWritten) -> None:
        """Copy the bundle, which stands whole before the first of its artefacts is told."""
        if self._tracked is None or self._run is None or self._copied or not self._options.artefacts:
            return
        self._copied = True
        with self._saying():
            self._tracked.client.log_artifacts(self._tracked.run, str(self._run.folder / "export"), "export")

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """ZooError: MLflow refuses what the block asks of it."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            where = self._options.tracking_uri or str(self._folder)
            hint = "mend the store, then go on with --resume; or leave the callback out: --set callback=[]"
            raise zoo.ZooError(f"MLflow cannot track the run: {_first(error)}", where=where, hint=hint) from error

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            with self._asking():
                yield
        except zoo.ZooError as error:
            log.warning("%s", str(error).partition("\n")[0])


def _status(reason: str) -> str:
    if reason == "interrupted":
        return "KILLED"
    return "FAILED" if reason.startswith("failed") else "FINISHED"


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
