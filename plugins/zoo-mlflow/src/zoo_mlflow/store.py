"""MLflow's client, so that nothing of it reaches the rest of the process, and where a run's store is."""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException
from itertools import count
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import zoo

NOTE = "run.json"
"""The file in `RUN/mlflow` by which a resume finds its run again."""

SQLITE = "sqlite:///"
"""What the URI of a database file begins with; its path follows."""

PATIENCE = 10.0
"""Seconds in which a server has to answer when a run begins. MLflow itself asks again and again, for four minutes."""

_opened: set[Path] = set()


@dataclass(frozen=True)
class Note:
    """MLflow's id of a run, and the URI of its store; None for the `database` beside the note."""

    run: str
    store: str | None
    database: str


def read_note(folder: Path) -> Note | None:
    """Return the note in `folder`, None where there is none. ZooError: it cannot be read."""
    path = folder / NOTE
    if not path.exists():
        return None
    try:
        return Note(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        hint = "remove it: the run is then a new one for MLflow"
        raise zoo.ZooError(f"cannot read {NOTE}: {error}", where=str(path), hint=hint) from error


def write_note(folder: Path, note: Note) -> None:
    """Write the note into `folder`. OSError: it cannot be written."""
    draft = folder / f".{NOTE}.draft"
    draft.write_text(json.dumps(asdict(note), indent=1) + "\n", encoding="utf-8")
    draft.replace(folder / NOTE)


def new_database(folder: Path) -> str:
    """Return a name for a new database in `folder`: mlflow.db.

    MLflow keeps a database open for as long as the process lives, also one whose file was removed since: where a run is
    overwritten by the same process, its database has another name.
    """
    for number in count(1):
        path = folder / (f"mlflow-{number}.db" if number > 1 else "mlflow.db")
        if path.absolute() not in _opened and not path.exists():
            break
    return path.name


def artefacts_of(folder: Path, store: str | None) -> str | None:
    """Return where a new experiment of a store keeps its artefacts: `artefacts` beside the database; None: as it likes.

    Left to itself MLflow takes a folder of the working one for those of a database.
    """
    if store is not None and not store.startswith(SQLITE):
        return None
    beside = folder if store is None else Path(store.removeprefix(SQLITE)).parent
    return (beside / "artefacts").absolute().as_uri()


def load() -> None:
    """Import MLflow."""
    with alone():
        import mlflow  # noqa: F401


def connect(folder: Path, store: str | None, database: str) -> Any:
    """Return MLflow's client for a store, which is made if need be. OSError, MLflow's own errors: no store answers."""
    from mlflow import MlflowClient

    if store is not None and store.startswith(("http://", "https://")):
        _require_answer(store)

    path = (folder / database).absolute()
    if store is None:
        _opened.add(path)
    with alone():
        return MlflowClient(tracking_uri=store or f"{SQLITE}{path}")


def _require_answer(server: str) -> None:
    try:
        urlopen(server, timeout=PATIENCE).close()
    except HTTPError as error:  # it answers; whether that will do is for MLflow to say
        error.close()
    except HTTPException:
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, SSLError):
            raise OSError(f"the server does not answer: {reason}") from error


@contextmanager
def alone() -> Iterator[None]:
    """MLflow's import starts a thread that reports home, and adds filters of warnings; it says and prints what it does.

    Standard output is the command's own.
    """
    variables, log = ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"), logging.getLogger("mlflow")
    before, level = {name: os.environ.get(name) for name in variables}, log.level
    os.environ |= dict.fromkeys(variables, "true")
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
