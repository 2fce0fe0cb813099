"""metrics.jsonl: one JSON object an epoch."""

import json
from pathlib import Path

from zoo.errors import RunError
from zoo.files import write_text
from zoo.registry.events import Evaluated, RunStarted
from zoo.registry.hookspecs import hookimpl
from zoo.registry.parts import NoOptions


def build(_: NoOptions, folder: Path) -> "MetricsJsonl":
    """Return the callback that keeps `folder/metrics.jsonl`."""
    return MetricsJsonl(folder / "metrics.jsonl")


class MetricsJsonl:
    """Keeps the file equal to the run's history: a resumed run doubles no line and lacks none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @hookimpl
    def run_started(self, event: RunStarted) -> None:
        """Write what was evaluated before."""
        write_text(self.path, "".join(line(evaluated) for evaluated in event.history))

    @hookimpl
    def evaluated(self, event: Evaluated) -> None:
        """Append the newest evaluation."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line(event))
        except OSError as error:  # the checkpoint has the history: a resume writes this line again
            what = f"cannot write {self.path.name}: {error.strerror}"
            raise RunError(what, where=str(self.path), hint="make room, then go on with --resume") from error


def line(event: Evaluated) -> str:
    """Return an evaluation as one line of JSON; epochs count from 1, as people do."""
    return json.dumps({"epoch": event.epoch + 1, "step": event.step, **event.metrics, "best": event.best}) + "\n"
