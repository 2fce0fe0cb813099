"""Benchmarks of device strategies: a recipe's own steps and loop, a few steps long, in processes of their own."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from pydantic import ValidationError

from zoo import __version__
from zoo.data import Part
from zoo.data.loader import ends_named
from zoo.devices.listing import Means, Usable, count_cores, describe_machine, find_means, judge_strategies
from zoo.devices.measure import describe, is_open
from zoo.devices.processes import count_processes
from zoo.devices.single import find_device
from zoo.errors import DeviceError, PluginError, Problem, RunError, ZooError
from zoo.freeze.plan import Phase
from zoo.recipe import Chosen, Recipe
from zoo.recipe.schema import DeviceTable
from zoo.registry import Registry, kinds
from zoo.registry.contracts import Backbone, DeviceSettings, Strategy, WeightsFile
from zoo.registry.parts import DevicePart
from zoo.run import steps
from zoo.run.folder import RunFolder
from zoo.run.launching import ProcessFault, others_named, run_processes, settings
from zoo.run.network import Network, input_spec
from zoo.train.loop import Loop
from zoo.train.optim import make_optimizer

WARM = 2
"""Steps before those that count: kernels are chosen in them, memory is claimed, and what is compiled is compiled."""

Tell = Callable[[str, str], None]
Devices = int | tuple[int, ...] | Literal["auto"]


@dataclass(frozen=True)
class Row:
    """What one strategy did, or why it could not.

    `images_per_second` is the median of the counted steps, over all processes; `relative` is that over the first row's.
    `memory` is the peak in bytes, summed over the processes. `first_step` is in seconds from the start of a process to
    the end of its first step, imports included; that of the slowest process.
    """

    strategy: str
    processes: int = 0
    images_per_second: float | None = None
    relative: float | None = None
    memory: int | None = None
    first_step: float | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Bench:
    """A table and what it holds for. `size` is the images' (height, width), `precision` in a few words.

    `memory` says what the rows' is: "RSS" of processes on a CPU, "allocated" on GPUs. `kept` says that a frozen
    backbone was computed once, before the first step, and the steps are those of the heads alone.
    """

    machine: str
    zoo: str
    torch: str
    model: str
    batch_size: int
    size: tuple[int, int]
    precision: str
    steps: int
    memory: Literal["RSS", "allocated"]
    kept: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class _Measured:
    """What rank 0 found, of all processes; the rates are those of the steps that count."""

    rates: tuple[float, ...]
    memory: int
    first_step: float
    device: str
    model: str
    size: tuple[int, int]
    kept: bool


def bench(
    recipe: Recipe,
    registry: Registry,
    strategies: Sequence[str] | None = None,
    *,
    count: int = 20,
    devices: int | None = None,
    tell: Tell = lambda label, text: None,
) -> Bench:
    """Take `count` steps of a recipe, after `WARM` that do not count, with each of `strategies`; None for all usable.

    They are steps of the recipe's first freeze phase, in one precision and memory format for all strategies: "auto" is
    measured once. `devices` is for strategies that take several; None for the recipe's, or else every GPU, or two
    processes on a CPU. Callbacks are left out, and nothing is kept. `tell` takes what is being done.
    PluginError: there is no such strategy. DeviceError: the recipe's device is not here, or a launcher started this.
    ZooError, ProcessFault: a run of the recipe would be refused, or no strategy could take the steps.
    """
    means = find_means()
    if means.world is not None:
        what = "this process was started by torchrun or srun, and a benchmark starts its own"
        raise DeviceError(what, hint="start it by itself")
    device = find_device(recipe.device.common.device)
    judged = {usable.name: usable for usable in judge_strategies(registry, _means_of(means, device))}
    names = find_strategies(registry, strategies) if strategies is not None else _usable(judged)
    recipe = _rehearsed(replace(recipe, exports=(), callbacks=()), registry, tell)
    with TemporaryDirectory(prefix="zoo-bench-") as folder:
        found = [_try(recipe, registry, judged[name], count, devices, Path(folder), tell) for name in names]
    measured = [one.found for one in found if one.found]
    if not measured:
        raise _first_refusal([one.error for one in found])
    first = measured[0]
    return Bench(
        machine=describe_machine(first.device.startswith("cuda")),
        zoo=__version__,
        torch=torch.__version__,
        model=first.model,
        batch_size=recipe.run.batch_size,
        size=first.size,
        precision=describe(settings(recipe)),
        steps=count,
        memory="allocated" if first.device.startswith("cuda") else "RSS",
        kept=first.kept,
        rows=_rows(found),
    )


def find_strategies(registry: Registry, names: Sequence[str]) -> list[str]:
    """Return the names, each once. PluginError: some are no strategies' (the nearest are named), or there are none."""
    problems: list[Problem] = []
    for name in dict.fromkeys(names):
        try:
            registry.find(kinds.DEVICE, name)
        except PluginError as error:
            problems += error.problems
    if problems:
        raise PluginError.of(problems)
    if not names:
        raise PluginError("there are no strategies to measure", hint="name some, or leave out --strategies")
    return list(dict.fromkeys(names))


def _usable(judged: dict[str, Usable]) -> list[str]:
    return [name for name, usable in judged.items() if usable.usable]


def _means_of(means: Means, device: torch.device) -> Means:
    """A recipe for the CPU needs nothing of the GPUs."""
    return means if device.type == "cuda" else replace(means, gpus=0)


@dataclass(frozen=True)
class _Tried:
    strategy: str
    processes: int = 0
    found: _Measured | None = None
    error: Exception | None = None


def _try(
    recipe: Recipe,
    registry: Registry,
    judged: Usable,
    count: int,
    devices: int | None,
    folder: Path,
    tell: Tell,
) -> _Tried:
    """Take the steps with one strategy; whatever keeps it from that is what its row says."""
    name = judged.name
    try:
        if not judged.usable:
            raise DeviceError(judged.note)
        recipe = with_strategy(recipe, registry, name, devices)
        processes = count_processes(settings(recipe)) if _takes_processes(recipe) else 1
        tell("measuring", f"{name}, {processes} process{'es' if processes > 1 else ''}")
        task = partial(_measure, recipe, count, folder / name, time.time())
        found: _Measured | None = run_processes(task, processes, fresh=True)
        if found is None:
            raise RunError("a process was killed: memory may be short")
    except (ZooError, ProcessFault) as error:
        return _Tried(name, error=error)
    return _Tried(name, processes, found)


def _takes_processes(recipe: Recipe) -> bool:
    return isinstance(recipe.device.part, DevicePart) and recipe.device.part.processes


def with_strategy(recipe: Recipe, registry: Registry, name: str, devices: int | None) -> Recipe:
    """Return the recipe with another strategy, on `devices`; None for those of `default_devices`.

    The strategy's own options are the recipe's where it is the recipe's strategy, else the defaults.
    DeviceError: it has an option without a default.
    """
    chosen, owned = recipe.device, registry.find(kinds.DEVICE, name)
    if chosen.part == owned.part:
        options = chosen.options
    else:
        try:
            options = owned.part.options()
        except ValidationError:
            what = f"{name!r} has options without a default: only a recipe that uses it can give them"
            raise DeviceError(what, "[device]") from None
    part, table = owned.part, chosen.common
    splits = name == "data-parallel" and find_device(table.device).type == "cuda"
    wanted: Devices = table.devices if chosen.part == part else "auto"
    if splits or (isinstance(part, DevicePart) and part.processes):
        wanted = devices or default_devices(table)
    return replace(recipe, device=Chosen(part, owned.owner, options, table.model_copy(update={"devices": wanted})))


def default_devices(table: DeviceTable) -> int | tuple[int, ...]:
    """Return the devices for strategies that take several: the recipe's, or every GPU, or two processes on a CPU."""
    if table.devices != "auto":
        return table.devices
    device = find_device(table.device)
    if device.type == "cpu":
        return min(2, count_cores())
    return torch.cuda.device_count() if device.type == "cuda" and table.device in ("auto", "cuda") else 1


def _rehearsed(recipe: Recipe, registry: Registry, tell: Tell) -> Recipe:
    """The recipe with what "auto" stands for, measured as a run does it, in a process of its own.

    It is taken up to there in any case: what is wrong with the recipe is said once, weights are downloaded, and every
    strategy finds what it imports in the system's memory.
    """
    if is_open(settings(recipe)):
        tell("measuring", "precision and memory format")
    alone = recipe.with_device(devices="auto", sync_batchnorm=False)
    task = partial(_find_settings, with_strategy(alone, registry, "single", None))
    found: DeviceSettings | None = run_processes(task, 1, fresh=True)
    if found is None:
        raise RunError("the process that assembles the model was killed", hint="memory may be short")
    return recipe.with_device(precision=found.precision, channels_last=found.channels_last)


def _first_refusal(errors: Sequence[Exception | None]) -> Exception:
    """What to raise when nothing could be measured: a fault of ours, or all refusals, each once."""
    faults = [error for error in errors if error is not None and not isinstance(error, ZooError)]
    if faults:
        return faults[0]
    problems = [problem for error in errors if isinstance(error, ZooError) for problem in error.problems]
    return RunError.of(dict.fromkeys(problems))


def _rows(found: Sequence[_Tried]) -> tuple[Row, ...]:
    rates = [median(one.found.rates) for one in found if one.found]
    rows = []
    for one in found:
        if one.found is None:
            rows.append(Row(one.strategy, why_not=_reason(one.error)))
            continue
        rate = median(one.found.rates)
        memory, first_step = one.found.memory, one.found.first_step
        rows.append(Row(one.strategy, one.processes, rate, rate / rates[0], memory, first_step))
    return tuple(rows)


def _reason(error: Exception | None) -> str:
    """The refusal without its mend, or the last line of a traceback."""
    if isinstance(error, ZooError):
        return "; ".join(problem.what for problem in error.problems)
    return str(error).strip().splitlines()[-1]


# What follows runs in the processes that are measured.


def _measure(recipe: Recipe, count: int, folder: Path, launched: float) -> _Measured:
    """Take the steps in this process. `launched` is when, by time.time(), it was asked for."""
    _die_when_told()
    with ExitStack() as held:
        made = _assemble(recipe, held)
        loop, strategy = _make_loop(made, folder), made.strategy
        rates, first_step = list[float](), 0.0
        for rate in _take_steps(loop, WARM + count):
            first_step = first_step or _age(launched)
            rates.append(rate)
        found = strategy.gather((_peak(strategy.device), first_step))
        strategy.close()
    return _Measured(
        rates=tuple(rates[WARM:]),
        memory=sum(peak for peak, _ in found),
        first_step=max(seconds for _, seconds in found),
        device=str(strategy.device),
        model=made.backbone.native.identity,
        size=made.gathered.preprocess.spec.size,
        kept=loop._route.train is not None,
    )


def _find_settings(recipe: Recipe) -> DeviceSettings:
    """Take the steps of a run up to the one that measures; the model is not placed as a whole."""
    _die_when_told()
    with ExitStack() as held:
        found: DeviceSettings = settings(_assemble(recipe, held).recipe)
        return found


def _die_when_told() -> None:
    """There is nothing to save, and Ctrl-C is no fault to report."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class _Assembled:
    """What the steps of a run have made before the model is placed; `recipe` says what was measured."""

    recipe: Recipe
    strategy: Strategy
    backbone: Backbone
    file: WeightsFile | None
    gathered: steps.Gathered
    network: Network
    phases: tuple[Phase, ...]


def _assemble(recipe: Recipe, held: ExitStack) -> _Assembled:
    """What must be closed is given to `held`."""
    strategy = steps.place(recipe)
    held.enter_context(others_named(strategy))
    held.enter_context(ends_named())
    with steps.main_first(strategy):
        backbone, file = steps.fetch(recipe)
    spec = input_spec(recipe, backbone, file)
    gathered = held.enter_context(closing(steps.gather(recipe, spec, steps.share(recipe, strategy))))
    network, _ = steps.assemble(recipe, backbone, file, gathered)
    phases = steps.freeze(recipe, network)
    recipe, strategy = steps.tune(recipe, strategy, network, phases, gathered)
    return _Assembled(recipe, strategy, backbone, file, gathered, network, phases)


def _make_loop(made: _Assembled, folder: Path) -> Loop:
    recipe, strategy, network, phases = made.recipe, made.strategy, made.network, made.phases
    average = steps.settle(recipe, strategy, network)
    optimizer = make_optimizer(recipe.optim, network.model, phases)
    run, gathered, file = RunFolder(folder), made.gathered, made.file
    return steps.prepare(recipe, run, strategy, network, phases, optimizer, average, gathered, file)


def _take_steps(loop: Loop, many: int) -> Iterator[float]:
    """Take so many steps of the first phase, over as many epochs as they need; yield each one's images per second."""
    job, progress = loop.job, loop.progress
    loop.total = max(loop.total, many)
    job.model.train()
    loop._enter(job.phases[0])
    epochs = (job.train.epoch(epoch, 0, loop._route.train) for epoch in itertools.count())
    parts: Iterator[Part] = itertools.islice(itertools.chain.from_iterable(epochs), many)
    started, images = time.perf_counter(), progress.images
    for part in parts:
        loop._step(part)
        if job.strategy.device.type != "cpu":
            torch.accelerator.synchronize(job.strategy.device)
        ended = time.perf_counter()
        yield (progress.images - images) / (ended - started)
        started, images = ended, progress.images


def _age(launched: float) -> float:
    """Seconds since this process was started; since it was asked for where the system does not say."""
    age = time.time() - launched
    with suppress(OSError):
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = min(age, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    return age


def _peak(device: torch.device) -> int:
    """The most memory in bytes: allocated on all GPUs by this process, or resident."""
    if device.type == "cuda":
        return sum(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage would count what the parent had when it started this process
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    import resource

    found: Any = resource.getrusage(resource.RUSAGE_SELF)
    return int(found.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)
