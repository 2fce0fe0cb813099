"""Proving a resume: a recipe is run whole, and again with kill -9 at random moments; every file must come out equal."""

import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from zoo.errors import RunError, ZooError
from zoo.files import sha256
from zoo.run.folder import RunFolder
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
) -> Proof:
    """Run `recipe` whole below `folder`, then killed `kills` times and resumed, over as many runs as that takes.

    The moments are drawn from `seed`, evenly over the time from a process's start to the end of its training; what was
    measured for the whole run holds for the killed ones. RunError: the run fails by itself.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{str(folder)!r} is not empty", hint="choose another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    whole = RunFolder(folder / "whole")
    _warm()
    started = time.monotonic()
    _finish(_start(recipe, whole.path, settings), whole.path)
    length = time.monotonic() - started
    tell("whole", f"{whole.path}, {length:.1f} s")
    done: list[Kill] = []
    different: list[str] = []
    draw = random.Random(seed)
    runs = 0
    while len(done) < kills:
        runs += 1
        out = folder / f"killed-{runs}"
        for kill in _killed(whole.recipe, out, runs, length, draw, kills - len(done)):
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


def _killed(recipe: Path, out: Path, run: int, length: float, draw: random.Random, most: int) -> Iterator[Kill]:
    """Yield the kills of one run, until it ends by itself; after `most` it is left alone."""
    for _ in range(most):
        process = _start(recipe, out)
        seconds = draw.uniform(0, length)
        process.join(seconds)
        if process.exitcode is not None:
            return _finish(process, out)
        process.kill()
        process.join()
        yield Kill(run, seconds, _stand(out))
    _finish(_start(recipe, out), out)


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


def _start(recipe: Path, out: Path, settings: Sequence[str] = ()) -> BaseProcess:
    """Start or resume a run in a process of its own, which says nothing."""
    resume = (out / LOCK).exists()
    process = _context().Process(target=_run, args=(str(recipe), str(out), tuple(settings), resume))
    process.start()
    return process


def _run(recipe: str, out: str, settings: Sequence[str], resume: bool) -> None:
    from zoo.recipe import load_recipe
    from zoo.registry import load_registry
    from zoo.run.finetuning import finetune

    multiprocessing.set_start_method(None, force=True)  # its loader's workers start as ever
    with _said(Path(out)).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        registry = load_registry()
        resolved = load_recipe(Path(recipe), registry, list(settings))
        finetune(resolved, Path(out), registry=registry, resume=resume)
    except ZooError as error:
        sys.exit(error.problems[0].what)


def _finish(process: BaseProcess, out: Path) -> None:
    """Wait for a run's end. RunError: it failed."""
    process.join()
    if process.exitcode:
        said = _said(out).read_text().strip().splitlines()
        what = (
            f"the run in {str(out)!r} ended with status {process.exitcode}: {said[-1] if said else 'it said nothing'}"
        )
        raise RunError(what, hint="make it run by itself first")
