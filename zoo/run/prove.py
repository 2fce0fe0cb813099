"""Proving a resume: a recipe is run whole, and again with kill -9 at random moments; every file must come out equal."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from zoo.errors import RunError, ZooError
from zoo.files import sha256
from zoo.recipe import load_recipe
from zoo.registry import Registry, load_registry
from zoo.registry.local import LocalFile
from zoo.run.folder import RunFolder
from zoo.run.launching import needs_launch
from zoo.run.lock import NAME as LOCK

HISTORY = ("environment.json", "log.txt", LOCK)
"""The files of a run folder that say when and how it was made: they may differ."""


@dataclass(frozen=True)
class Kill:
    """A kill -9: the run it was in, how many seconds after its start, and its newest checkpoint ("" for none)."""

    run: int
    seconds: float
    stood: str


@dataclass(frozen=True)
class Proof:
    """What was found: the kills, over how many runs, and the files that came out other than in the whole run."""

    whole: Path
    runs: int
    kills: tuple[Kill, ...]
    different: tuple[str, ...]


def prove(
    recipe: Path,
    folder: Path,
    kills: int,
    settings: Sequence[str] = (),
    seed: int = 0,
    tell: Callable[[str, str], None] = lambda label, text: None,
    registry: Registry | None = None,
) -> Proof:
    """Run `recipe` whole below `folder`, then killed `kills` times and resumed, over as many runs as that takes.

    The moments are drawn from `seed`, evenly over the time from a process's start to the end of its training; what was
    measured for the whole run holds for the killed ones. RunError: the run fails by itself.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{str(folder)!r} is not empty", hint="choose another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    whole = RunFolder(folder / "whole")
    registry = registry or load_registry()
    start: _Start = partial(_start, registry)
    if needs_launch(load_recipe(recipe, registry, list(settings))):
        start = partial(_start_command, registry)
    else:
        _warm()
    started = time.monotonic()
    _finish(start(recipe, whole.path, settings), whole.path)
    length = time.monotonic() - started
    tell("whole", f"{whole.path}, {length:.1f} s")
    done: list[Kill] = []
    different: list[str] = []
    draw = random.Random(seed)
    runs = 0
    while len(done) < kills:
        runs += 1
        out = folder / f"killed-{runs}"
        for kill in _killed(start, whole.recipe, out, runs, length, draw, kills - len(done)):
            done.append(kill)
            stood = kill.stood or "no checkpoint yet"
            tell("killed", f"{len(done)} of {kills}, {kill.seconds:.1f} s after its start: {stood}")
        found = compare(whole.path, out)
        different += [f"{out.name}/{name}" for name in found]
        tell("compared", f"{out.name}: {', '.join(found) + ' differ' if found else 'every file is equal'}")
        if not found:
            shutil.rmtree(out)
            _said(out).unlink()
    return Proof(whole.path, runs, tuple(done), tuple(different))


def _killed(
    start: "_Start", recipe: Path, out: Path, run: int, length: float, draw: random.Random, most: int
) -> Iterator[Kill]:
    """Yield the kills of one run, until it ends by itself; after `most` it is left alone."""
    for _ in range(most):
        process = start(recipe, out, ())
        seconds = draw.uniform(0, length)
        process.join(seconds)
        if process.exitcode is not None:
            return _finish(process, out)
        process.kill()
        process.join()
        yield Kill(run, seconds, _stand(out))
    _finish(start(recipe, out, ()), out)


def _stand(out: Path) -> str:
    checkpoints = sorted((out / "checkpoints").glob("step-*"))
    return checkpoints[-1].name if checkpoints else ""


def compare(one: Path, other: Path) -> list[str]:
    """Return the names of the files in two run folders that differ or that only one has, but for `HISTORY`."""
    first, second = _files(one), _files(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def _files(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {name: sha256(path) for path in paths if (name := path.relative_to(folder).as_posix()) not in HISTORY}


def _context() -> ForkServerContext:
    """A process that has imported what a run needs, and makes others of itself: each starts in a moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zoo.run"])
    return context


def _warm() -> None:
    """Let the imports be done: they are no part of a run's length."""
    process = _context().Process(target=time.sleep, args=(0,))
    process.start()
    process.join()


def _said(out: Path) -> Path:
    """The file beside a run's folder that holds what its process said."""
    return out.with_suffix(".txt")


class _Command:
    """A run of several processes: a command, in a session of its own with all that it starts."""

    def __init__(self, words: Sequence[str], said: Path) -> None:
        with said.open("w") as file:
            self._process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)

    @property
    def exitcode(self) -> int | None:
        """Its status; None while it runs."""
        return self._process.poll()

    def join(self, seconds: float | None = None) -> None:
        """Wait for its end, so long at most."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def kill(self) -> None:
        """Kill -9 all of its processes; on a system without /proc its launcher alone."""
        self._process.kill()
        while left := _session(self._process.pid):
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._process.poll()  # a leader that nobody has waited for stays in its session
        self._process.wait()


def _session(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone by now
            state, _, _, session, *_ = stat.read_text().rpartition(")")[2].split()
            found += [int(stat.parent.name)] if int(session) == leader and state != "Z" else []
    return found


_Running = BaseProcess | _Command
_Start = Callable[[Path, Path, Sequence[str]], _Running]


def _start_command(registry: Registry, recipe: Path, out: Path, settings: Sequence[str]) -> _Command:
    """Start or resume a run of several processes."""
    words = [word for setting in settings for word in ("--set", setting)]
    resume = ["--resume"] if (out / LOCK).exists() else []
    chosen = [f"no:{name}" for name in registry.blocked] + [str(file.path) for file in registry.files]
    plugins = [word for one in chosen for word in ("--plugin", one)]
    command = [sys.executable, "-m", "zoo", *plugins, "finetune", str(recipe), "--out", str(out), *resume, *words]
    return _Command(command, _said(out))


def _start(registry: Registry, recipe: Path, out: Path, settings: Sequence[str]) -> BaseProcess:
    """Start or resume a run in a process of its own, which says nothing."""
    resume = (out / LOCK).exists()
    chosen = (registry.blocked, registry.files)
    process = _context().Process(target=_run, args=(chosen, str(recipe), str(out), tuple(settings), resume))
    process.start()
    return process


def _run(
    chosen: tuple[tuple[str, ...], tuple[LocalFile, ...]], recipe: str, out: str, settings: Sequence[str], resume: bool
) -> None:
    from zoo.run.finetuning import finetune

    multiprocessing.set_start_method(None, force=True)  # its loader's workers start as ever
    with _said(Path(out)).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        registry = load_registry(chosen[0], files=chosen[1])
        resolved = load_recipe(Path(recipe), registry, list(settings))
        finetune(resolved, Path(out), registry=registry, resume=resume)
    except ZooError as error:
        sys.exit(error.problems[0].what)


def _finish(process: _Running, out: Path) -> None:
    """Wait for a run's end. RunError: it failed."""
    process.join()
    if process.exitcode:
        said = _said(out).read_text().strip().splitlines()
        what = (
            f"the run in {str(out)!r} ended with status {process.exitcode}: {said[-1] if said else 'it said nothing'}"
        )
        raise RunError(what, hint="make it run by itself first")
