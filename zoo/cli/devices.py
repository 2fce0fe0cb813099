"""`zoo devices`."""

import platform
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from zoo import __version__
from zoo.cli.say import JsonOption, say, say_json, say_line, say_table
from zoo.cli.state import State

if TYPE_CHECKING:
    from zoo.devices.listing import Gpu, Listing


def devices(context: typer.Context, as_json: JsonOption = False) -> None:
    """Say what devices are here, which device strategies can be used with them, and what the others need.

    Example: zoo devices
    """
    state: State = context.obj
    registry = state.registry()
    from zoo.devices.listing import list_here

    found = list_here(registry)
    if as_json:
        say_json(asdict(found))
        return
    for label, text in head_lines(found):
        say_line(label, text)
    say()
    rows = [*found.strategies, *found.keys]
    say_table((row.name, "yes" if row.usable else "no", row.note) for row in rows)


def head_lines(found: "Listing") -> list[tuple[str, str]]:
    """Return the lines above the strategies: what each is about, and what there is to know."""
    cpu, world = found.cpu, found.means.world
    lines = [("zoo", f"{__version__}, torch {found.means.torch}, Python {platform.python_version()}")]
    lines += [(gpu.name, gpu_text(gpu, found.visible)) for gpu in found.gpus]
    lines += [("gpu", f"none: {found.no_gpu}")] if found.no_gpu and not found.means.mps else []
    lines += [("mps", "Apple's GPU, in the machine's own memory")] if found.means.mps else []
    lines += [("cpu", f"{cpu.model}, {cpu.cores} cores, {cpu.threads} threads, {_bf16(cpu.bf16)}")]
    started = "by itself, not by torchrun or srun"
    if world is not None:
        here = f", {world.local_rank} of {world.local_size} on this machine" if world.size != world.local_size else ""
        started = f"by torchrun or srun, as process {world.rank} of {world.size}{here} (counted from 0)"
    return [*lines, ("started", started)]


def gpu_text(gpu: "Gpu", visible: str | None) -> str:
    """Return a GPU in words, and which of the machine's it is where CUDA_VISIBLE_DEVICES counts them anew."""
    text = f"{gpu.model}, {gpu.memory / 2**30:.1f} GiB, {_bf16(gpu.bf16)}"
    return text if gpu.number is None else f"{text}; {gpu.name} is GPU {gpu.number} (CUDA_VISIBLE_DEVICES={visible})"


def _bf16(has: bool) -> str:
    return "bf16" if has else "no bf16 of its own"
