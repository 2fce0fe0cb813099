"""What an earlier attempt at the same run has written already, so that nothing is written twice."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG


@dataclass(frozen=True)
class Written:
    """The steps of every tag that count, and whether the graph and the hyperparameters are there."""

    steps: dict[str, set[int]] = field(default_factory=dict)
    graph: bool = False
    hyperparameters: bool = False

    def has(self, tag: str, step: int) -> bool:
        """Return whether the tag has a value at `step`."""
        return step in self.steps.get(tag, ())


def read_written(folder: Path, last: int) -> Written:
    """Return what the event files in `folder` hold up to the step `last`. A file that was cut short is read so far."""
    steps: dict[str, set[int]] = {}
    graph = False
    for event in _events(folder):
        graph = graph or event.HasField("graph_def")
        if event.session_log.status == SessionLog.START:  # from here on an attempt wrote these steps anew
            steps = {tag: {step for step in found if step < event.step} for tag, found in steps.items()}
        for value in event.summary.value:
            steps.setdefault(value.tag, set()).add(event.step)
    hyperparameters = SESSION_START_INFO_TAG in steps
    return Written(
        {tag: {step for step in found if step <= last} for tag, found in steps.items()}, graph, hyperparameters
    )


def await_turn(folder: Path) -> None:
    """Wait, a second at most, until a new event file comes after those in `folder`.

    TensorBoard reads files in the order of their names, and those begin with the second in which they were made.
    """
    seconds = [int(path.name.split(".")[3]) for path in _files(folder)]
    time.sleep(min(1.0, max(0.0, max(seconds, default=0) + 1 - time.time())))


def _events(folder: Path) -> Iterator[Event]:
    for path in _files(folder):
        yield from LegacyEventFileLoader(str(path)).Load()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.[0-9]*"))
