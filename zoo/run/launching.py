"""The processes of a run: torch's elastic launch around a task, and what becomes of them when one fails."""

import json
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from zoo.errors import DeviceError, Problem, RunError, ZooError
from zoo.memory import preload, start_method
from zoo.recipe import Recipe
from zoo.registry import Registry
from zoo.registry.contracts import Strategy
from zoo.registry.events import ArtefactWritten, RunEnded
from zoo.registry.local import LocalFile
from zoo.registry.parts import DevicePart
from zoo.run.folder import new_folder_for
from zoo.run.logs import tell


@dataclass(frozen=True)
class Result:
    """What a finished run left: its folder, how it ended, and its artefacts; `is_main` but in ranks above 0."""

    folder: Path
    ended: RunEnded
    artefacts: tuple[ArtefactWritten, ...]
    is_main: bool = True


SILENCE = 10.0
"""Seconds in which a process that is still there says so, after another one was lost."""

SLOW = "see what became of it; if it was only slow, set device.timeout higher; then go on with --resume"

TALKATIVE = ("torch.distributed.elastic", "torch.multiprocessing")
"""Torch's loggers that say what `launch` says, once and in zoo's words."""

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


class ProcessFault(Exception):  # noqa: N818  named as what it is: a fault of zoo or a plugin in one of the processes
    """A process of a run raised what is no refusal; its traceback is the message."""


class Lost(RunError):  # noqa: N818
    """Other processes have ended or do not answer: those of the ranks `silent`."""

    silent: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Order:
    """What a process is to do."""

    recipe: Recipe
    out: Path
    blocked: tuple[str, ...]
    files: tuple[LocalFile, ...]
    resume: bool
    overwrite: bool
    changes: tuple[str, ...]
    aloud: Callable[[], AbstractContextManager[Any]]


def check_launched(recipe: Recipe) -> None:
    """Refuse to be one of several processes with a strategy for one. DeviceError."""
    from zoo.devices.world import find_world

    world = find_world()
    if world is not None and world.size > 1 and not _takes_processes(recipe):
        what = f"this is one of {world.size} processes, and {recipe.device.part.name!r} takes one"
        raise DeviceError(what, "device.use", 'use "ddp" or "fsdp", or start it without torchrun or srun')


def needs_launch(recipe: Recipe) -> bool:
    """Return whether the recipe's strategy wants several processes, and nothing has launched them. DeviceError."""
    from zoo.devices.processes import count_processes
    from zoo.devices.world import find_world

    return _takes_processes(recipe) and find_world() is None and count_processes(settings(recipe)) > 1


def _takes_processes(recipe: Recipe) -> bool:
    return isinstance(recipe.device.part, DevicePart) and recipe.device.part.processes


def settings(recipe: Recipe) -> Any:
    """Return what every device strategy takes of the recipe."""
    from zoo.registry.contracts import DeviceSettings

    return DeviceSettings(**recipe.device.common.model_dump())


def launch(
    recipe: Recipe,
    out: Path | None,
    registry: Registry,
    resume: bool,
    overwrite: bool,
    changes: tuple[str, ...],
    aloud: Callable[[], AbstractContextManager[Any]],
) -> Result:
    """Run `finetune` in as many processes as the recipe's strategy wants, on this machine; return what rank 0 did.

    Processes that were killed are replaced, `device.restarts` times, and the run goes on from its newest checkpoint.
    One that raises ends them all. ZooError: what a process refused. ProcessFault: any other error of one.
    """
    from zoo.devices.processes import count_processes

    options, count = recipe.device.options, count_processes(settings(recipe))
    folder = out or new_folder_for(recipe.run.name)
    order = _Order(recipe, folder, registry.blocked, registry.files, resume, overwrite, changes, aloud)
    restarts, patience = getattr(options, "restarts", 0), getattr(options, "timeout", 600)
    with aloud():
        result: Result | None = run_processes(partial(_finetune, order), count, restarts, patience)
    if result is None:
        what = "the processes were killed again and again"
        raise RunError(what, where=str(folder), hint=f"see why, then: zoo finetune --resume {folder}")
    return result


def run_processes(
    task: Callable[[], Any], count: int, restarts: int = 0, patience: int = 600, *, fresh: bool = False
) -> Any:
    """Call `task`, which can be pickled, in `count` processes on this machine; return what it gives in rank 0.

    None when they were killed more than `restarts` times. `fresh` ones begin as a new Python does, and import all by
    themselves. ZooError: what a process refused. ProcessFault: any other error of one.
    """
    with TemporaryDirectory(prefix="zoo-reports-") as reports:
        try:
            result = _run_agent(task, Path(reports), count, restarts, patience, fresh)
        except BaseException:
            _raise_first(Path(reports))
            raise
        if result is None:
            _raise_first(Path(reports))
        return result


def _run_agent(task: Callable[[], Any], reports: Path, count: int, restarts: int, patience: int, fresh: bool) -> Any:
    """Torch's agent on this machine; None when the processes failed."""
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous import registry as rendezvous

    from zoo.devices.agent import Agent

    for name in [name for name in logging.root.manager.loggerDict if name.startswith(TALKATIVE)]:
        logging.getLogger(name).disabled = True
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ",".join(SIGNALS)
    before = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS}
    name = f"zoo-{uuid.uuid4().hex}"
    meeting = rendezvous.get_rendezvous_handler(
        RendezvousParameters("c10d", "localhost:0", name, min_nodes=1, max_nodes=1, local_addr="127.0.0.1")
    )
    spec = WorkerSpec(
        role="zoo",
        local_world_size=count,
        entrypoint=_work,
        args=(task, reports),
        rdzv_handler=meeting,
        max_restarts=restarts,
        monitor_interval=0.1,
        local_addr="127.0.0.1",
    )
    preload()
    logs = DefaultLogsSpecs(log_dir=str(reports / "torch"))
    agent = Agent(
        spec=spec, logs_specs=logs, start_method="spawn" if fresh else start_method(), shutdown_timeout=patience
    )
    agent.tell, agent.silent, agent.forget = tell, partial(_silent, reports), partial(_forget, reports)
    try:
        done = agent.run()
    except SignalException as error:
        raise KeyboardInterrupt from error
    finally:
        for signal_name, handler in before.items():
            signal.signal(getattr(signal, signal_name), handler)
        meeting.shutdown()
    return None if done.is_failed() else done.return_values[0]


def _work(task: Callable[[], Any], reports: Path) -> Any:
    """One process: the task, and a report for the launcher when it fails."""
    from zoo.memory import settle

    settle()
    os.setpgid(0, 0)  # Ctrl-C reaches the launcher alone, which passes it on
    multiprocessing.set_start_method(None, force=True)  # a loader's workers start as ever
    Thread(target=_stop_with_the_launcher, daemon=True).start()
    rank = int(os.environ["RANK"])
    try:
        result = task()
    except BaseException as error:  # noqa: BLE001  the launcher says it
        _report(reports, rank, error)
        sys.stdout.flush()
        os._exit(error.exit_code if isinstance(error, ZooError) else 1)
    return result if rank == 0 else None


def _stop_with_the_launcher() -> None:
    """A launcher that is killed tells nobody: its processes stop after their step, with a checkpoint."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _finetune(order: _Order) -> Result:
    from zoo.registry import load_registry
    from zoo.run.finetuning import finetune

    return finetune(
        order.recipe,
        order.out,
        registry=load_registry(order.blocked, files=order.files),
        resume=order.resume,
        overwrite=order.overwrite,
        changes=order.changes,
        aloud=order.aloud,
    )


def _report(folder: Path, rank: int, error: BaseException) -> None:
    said: dict[str, Any] = {"rank": rank, "time": time.time(), "lost": isinstance(error, Lost)}
    said["silent"] = error.silent if isinstance(error, Lost) else ()
    if isinstance(error, ZooError):
        problems = [[problem.what, problem.where, problem.hint] for problem in error.problems]
        said |= {"problems": problems, "exit": error.exit_code}
    else:
        said |= {"trace": "".join(traceback.format_exception(error))}
    draft = folder / f".{rank}"
    draft.write_text(json.dumps(said), encoding="utf-8")
    draft.rename(folder / f"{rank}.json")


def _reports(folder: Path) -> list[dict[str, Any]]:
    """Return what processes said when they failed, the first first; those that only lost others come last."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(reports, key=lambda said: (said["lost"], said["time"]))


def _silent(folder: Path) -> set[int]:
    return {rank for said in _reports(folder) for rank in said["silent"]}


def _forget(folder: Path) -> None:
    for path in folder.glob("*.json"):
        path.unlink()


def _raise_first(folder: Path) -> None:
    for said in _reports(folder)[:1]:
        if "trace" in said:
            raise ProcessFault(f"process {said['rank']}:\n{said['trace']}")
        error = RunError.of([Problem(*problem) for problem in said["problems"]])
        error.exit_code = said["exit"]
        raise error


@contextmanager
def others_named(strategy: Strategy) -> Iterator[None]:
    """Where a collective fails, say which processes no longer answer. Lost."""
    try:
        yield
    except RuntimeError as error:
        from zoo.devices.meeting import find_silent, is_of_collectives

        if strategy.processes == 1 or not is_of_collectives(error):
            raise
        silent = find_silent(strategy.rank, strategy.processes, SILENCE)
        raise _lost(strategy, silent, error) from error


def _lost(strategy: Strategy, silent: Sequence[int], error: RuntimeError) -> Lost:
    if not silent:
        return Lost(f"the processes could not exchange tensors: {str(error).splitlines()[0]}", hint=SLOW)
    names = " and ".join(map(str, silent))
    found = f"process {names} of {strategy.processes} has ended or does not answer"
    if len(silent) > 1:
        found = f"processes {names} of {strategy.processes} have ended or do not answer"
    lost = Lost(found, hint=SLOW)
    lost.silent = tuple(silent)
    return lost
