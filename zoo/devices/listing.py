"""What is here: the devices, and which strategies and keys of [device] can be used with them."""

import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed as dist

from zoo.devices.measure import _has_bf16
from zoo.devices.single import available
from zoo.devices.world import World, find_world
from zoo.errors import PluginError
from zoo.registry import Registry, kinds
from zoo.registry.parts import DevicePart


@dataclass(frozen=True)
class Gpu:
    """A CUDA GPU. `name` is torch's ("cuda:0"); `number` that of the machine, where CUDA_VISIBLE_DEVICES gives it.

    `memory` is in bytes.
    """

    name: str
    number: str | None
    model: str
    memory: int
    bf16: bool


@dataclass(frozen=True)
class Cpu:
    """The CPU: `cores` are those that this process may use, `threads` those that torch does."""

    model: str
    cores: int
    threads: int
    bf16: bool


@dataclass(frozen=True)
class Means:
    """What decides whether a strategy can be used: how many GPUs, what torch was built with, and who started this.

    `cxx` is the C++ compiler that torch.compile asks for, `world` what a launcher says of this process (None: nothing).
    """

    gpus: int
    mps: bool
    torch: str
    distributed: bool
    gloo: bool
    nccl: bool
    fully_shard: bool
    triton: bool
    cxx: str
    has_cxx: bool
    world: World | None


@dataclass(frozen=True)
class Usable:
    """Whether a strategy, or a key of [device], can be used here; `note` says how, or why not and what it needs."""

    name: str
    usable: bool
    note: str
    summary: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Listing:
    """All that is here. `visible` is CUDA_VISIBLE_DEVICES; `no_gpu` says why there is none, "" when there is one."""

    gpus: tuple[Gpu, ...]
    visible: str | None
    no_gpu: str
    cpu: Cpu
    means: Means
    strategies: tuple[Usable, ...]
    keys: tuple[Usable, ...]


def list_here(registry: Registry, environment: Mapping[str, str] = os.environ) -> Listing:
    """Return what is here. DeviceError: the environment says half of what a launcher says."""
    means, visible = find_means(environment), environment.get("CUDA_VISIBLE_DEVICES")
    return Listing(
        gpus=find_gpus(visible),
        visible=visible,
        no_gpu="" if means.gpus else why_no_gpu(torch.__version__, torch.version.cuda or torch.version.hip, visible),
        cpu=find_cpu(),
        means=means,
        strategies=judge_strategies(registry, means),
        keys=judge_keys(means),
    )


def find_gpus(visible: str | None) -> tuple[Gpu, ...]:
    """Return the GPUs that torch sees; `visible` is CUDA_VISIBLE_DEVICES, which counts them anew."""
    if not torch.cuda.is_available():
        return ()
    numbers: list[str | None] = [name.strip() for name in visible.split(",")] if visible else []
    numbers += [None] * torch.cuda.device_count()
    return tuple(_gpu(index, numbers[index]) for index in range(torch.cuda.device_count()))


def _gpu(index: int, number: str | None) -> Gpu:
    """Only properties are asked for: anything else would take memory of every GPU."""
    found = torch.cuda.get_device_properties(index)
    bf16 = torch.version.hip is not None or found.major >= 8  # NVIDIA: from Ampere on; see torch.cuda.is_bf16_supported
    return Gpu(f"cuda:{index}", number, str(found.name), int(found.total_memory), bf16)


def why_no_gpu(version: str, built_for: str | None, visible: str | None) -> str:
    """Return why torch `version`, built for CUDA `built_for` (None for no GPU), sees no GPU."""
    if built_for is None:
        return f"torch {version} is built without CUDA"
    if visible is not None and visible.strip() in ("", "-1"):
        return f'CUDA_VISIBLE_DEVICES="{visible}" hides them'
    hidden = f", with CUDA_VISIBLE_DEVICES={visible}" if visible else ""
    return f"torch {version} finds no GPU, or no driver for one{hidden}"


def find_cpu() -> Cpu:
    """Return the CPU."""
    return Cpu(cpu_model(), count_cores(), torch.get_num_threads(), _has_bf16(torch.device("cpu")))


def cpu_model(info: Path = Path("/proc/cpuinfo")) -> str:
    """Return the CPU's name; its kind ("arm64") where nothing says more."""
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names and names[0] else platform.processor() or platform.machine()


def count_cores() -> int:
    """Return how many cores this process may use; all of the machine's where the system does not say."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine(with_gpus: bool) -> str:
    """Return the machine in words: the names of its GPUs where they are wanted, and the CPU's."""
    models = [gpu.model for gpu in find_gpus(None)] if with_gpus else []
    gpus = [f"{models.count(model)} × {model}" for model in dict.fromkeys(models)]
    return ", ".join([*gpus, f"{cpu_model()}, {count_cores()} cores"])


def find_means(environment: Mapping[str, str] = os.environ) -> Means:
    """Return what there is to build on. DeviceError: see `find_world`."""
    distributed, here = dist.is_available(), available()
    cxx = environment.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return Means(
        gpus=sum(name.startswith("cuda") for name in here),
        mps="mps" in here,
        torch=torch.__version__,
        distributed=distributed,
        gloo=distributed and dist.is_gloo_available(),
        nccl=distributed and dist.is_nccl_available(),
        fully_shard=distributed and "fully_shard" in vars(import_module("torch.distributed.fsdp")),
        triton=find_spec("triton") is not None,
        cxx=cxx,
        has_cxx=shutil.which(shlex.split(cxx)[0]) is not None,
        world=find_world(environment),
    )


Verdict = tuple[bool, str]


def judge_strategies(registry: Registry, means: Means) -> tuple[Usable, ...]:
    """Return a verdict for every strategy that is installed, zoo's own first."""
    names = {owned.part.name for owned in registry.parts(kinds.DEVICE)}
    own = list(RULES)
    ordered = sorted(names, key=lambda name: (own.index(name) if name in own else len(own), name))
    return tuple(_judge(registry, name, means) for name in ordered)


def _judge(registry: Registry, name: str, means: Means) -> Usable:
    try:
        owned = registry.find(kinds.DEVICE, name)
        owned.part.builder()
    except PluginError as error:
        problem = error.problems[0]
        return Usable(name, False, f"{problem.what}: {problem.hint}")
    part = owned.part
    takes_processes = isinstance(part, DevicePart) and part.processes
    rule = RULES.get(name)
    usable, note = rule(means) if rule else (True, part.summary)
    if means.world is not None and means.world.size > 1 and not takes_processes:
        usable, note = False, f"this is one of {means.world.size} processes, and it takes one"
    return Usable(name, usable, note, part.summary, str(owned.owner))


def _single(means: Means) -> Verdict:
    first = "cuda:0" if means.gpus else "mps" if means.mps else "cpu"
    return True, f'device = "auto" takes {first}'


def _data_parallel(means: Means) -> Verdict:
    if means.gpus > 1:
        return True, f"a batch is split over {means.gpus} GPUs"
    return True, "runs as single does: to gain anything it needs 2 or more GPUs"


def _several(means: Means) -> Verdict:
    if not means.distributed:
        return False, f"torch {means.torch} is built without torch.distributed"
    if not means.gloo:
        return False, f"torch {means.torch} is built without gloo, by which processes exchange what is on the CPU"
    if means.gpus and not means.nccl:
        return False, f'torch {means.torch} is built without nccl, by which GPUs exchange tensors; use device = "cpu"'
    if means.world is not None and means.world.size > 1:
        return True, f"as the {means.world.size} processes that were launched"
    if means.gpus:
        return True, f"a process for each GPU, here {means.gpus}, by nccl"
    where = 'on the CPU (device = "cpu")' if means.mps else "on the CPU"
    return True, f"one process; devices = N starts N of them {where}, by gloo"


def _fsdp(means: Means) -> Verdict:
    if means.distributed and not means.fully_shard:
        return False, f"torch {means.torch} has no fully_shard; it needs 2.6 or newer"
    return _several(means)


RULES: dict[str, Callable[[Means], Verdict]] = {
    "single": _single,
    "data-parallel": _data_parallel,
    "ddp": _several,
    "fsdp": _fsdp,
}
"""What zoo's own strategies need. A plugin knows by itself what its strategies do."""


def judge_keys(means: Means) -> tuple[Usable, ...]:
    """Return a verdict for the keys of [device] that not every machine can do."""
    several, why_not = _several(means)
    sync = "ddp and fsdp share batch statistics" if means.gpus else "needs GPUs, for ddp and fsdp to share statistics"
    usable = bool(means.gpus) and several
    return (
        Usable("sync_batchnorm", usable, why_not if means.gpus and not several else sync),
        Usable("compile", *_compile(means)),
    )


def _compile(means: Means) -> Verdict:
    if means.gpus:
        return means.triton, "Triton compiles for the GPUs" if means.triton else "needs Triton: pip install triton"
    if not means.has_cxx:
        return False, f"needs a C++ compiler for the CPU, and {means.cxx} is not here; CXX can name another"
    return True, f"{means.cxx} compiles for the CPU"
