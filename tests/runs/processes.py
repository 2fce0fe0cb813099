"""A launched run as its user meets it: a real command, the processes it started, and signals to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ENTRY = "import sys; from zoo.cli.main import main; sys.argv[0] = 'zoo'; main()"


def command(*words: object) -> list[str]:
    """The words of a `zoo` command with this interpreter."""
    return [sys.executable, "-c", ENTRY, *map(str, words)]


def start(folder: Path, *words: object, environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    """Start a command in a session of its own, with one thread a process."""
    return subprocess.Popen(
        command(*words),
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def session(leader: int) -> dict[int, int]:
    """{process: its group} of all processes in the session of `leader`."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # gone by now
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found[int(stat.parent.name)] = int(fields[2])
    return found


def ranks(leader: int) -> list[int]:
    """The processes that train: each leads a group of its own."""
    return sorted(process for process, group in session(leader).items() if process == group != leader)


def _parents() -> dict[int, int]:
    """{process: its parent} of all processes."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone by now
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return found


def children(parent: int) -> list[int]:
    """The processes that a process has started itself."""
    return sorted(process for process, its in _parents().items() if its == parent)


def kill_tree(root: int) -> None:
    """Kill -9 a command and all that it started, in whatever session."""
    parents = _parents()
    below = {root}
    while more := {process for process, parent in parents.items() if parent in below} - below:
        below |= more
    for process in below:
        with suppress(ProcessLookupError):  # gone by now
            os.kill(process, signal.SIGKILL)


def wait_until(true: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.02)


def wait_for(path: Path) -> None:
    """Wait until a path is there."""
    wait_until(path.exists)


def wait_for_step(run: Path, step: int) -> None:
    """Wait until a run has a checkpoint of this step, or of a later one: old ones go."""
    wait_until(lambda: any(path.name >= f"step-{step:08d}" for path in run.glob("checkpoints/step-*")))


def wait_for_the_end_of(leader: int) -> None:
    """Wait until no process of a session is left."""
    wait_until(lambda: not session(leader), 10)
