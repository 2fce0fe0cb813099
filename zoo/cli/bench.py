"""`zoo bench RECIPE`."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.finetune import SetOption
from zoo.cli.say import JsonOption, say, say_json, say_line, say_table
from zoo.cli.state import State

if TYPE_CHECKING:
    from zoo.run.bench import Bench, Row

MEMORY = {
    "RSS": "the peak resident set, summed over the processes (loader workers not counted)",
    "allocated": "the peak that torch allocated on the GPUs, summed over the processes",
}


def bench(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML recipe.")],
    settings: SetOption = None,
    strategies: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Device strategies. [default: all that can be used here]")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps that count, after 2 that do not.")] = 20,
    devices: Annotated[
        int | None,
        typer.Option(min=1, help="For those that take several. [default: the recipe's, every GPU, or 2 on a CPU]"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare device strategies on a recipe's own training steps: speed, memory, time to the first step.

    Each runs in processes of its own. Nothing is validated, saved or exported.

    Example: zoo bench recipes/resnet50_cls.toml --strategies single,ddp --steps 20
    """
    from zoo.recipe import load_recipe

    state: State = context.obj
    registry = state.registry()
    resolved = load_recipe(recipe, registry, settings or [])
    names = None if strategies is None else [name.strip() for name in strategies.split(",") if name.strip()]
    from zoo.run.bench import bench as bench_recipe

    tell = (lambda label, text: None) if as_json else say_line
    found = bench_recipe(resolved, registry, names, count=steps, devices=devices, tell=tell)
    if as_json:
        say_json(asdict(found))
        return
    say()
    for label, text in head_lines(found):
        say_line(label, text)
    say()
    say_table(table_rows(found))


def head_lines(found: "Bench") -> Iterator[tuple[str, str]]:
    """Yield what the table holds for, and what its columns mean."""
    height, width = found.size
    yield "machine", found.machine
    yield "versions", f"zoo {found.zoo}, torch {found.torch}"
    yield "model", f"{found.model}, {found.precision}"
    yield "batch", f"{found.batch_size} images of {height} × {width} px, over all processes"
    yield "images/s", f"the median of {found.steps} steps, in the recipe's first freeze phase"
    if found.kept:
        yield "features", "of the frozen backbone are kept: the steps are those of the heads alone"
    yield "memory", MEMORY[found.memory]
    yield "first step", "seconds from the start of a process to the end of its first step, imports included"


def table_rows(found: "Bench") -> list[tuple[str, ...]]:
    """Return the table, a heading first: numbers to the right, and at the end why a strategy could not be measured."""
    heading = ("processes", "images/s", "relative", "memory", "first step")
    numbers = [heading, *map(_numbers, found.rows)]
    widths = [max(map(len, column)) for column in zip(*numbers, strict=True)]
    names = ["strategy", *(row.strategy for row in found.rows)]
    reasons = ["", *(row.why_not for row in found.rows)]
    return [
        (name, *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)), reason)
        for name, cells, reason in zip(names, numbers, reasons, strict=True)
    ]


def _numbers(row: "Row") -> tuple[str, ...]:
    if row.images_per_second is None or row.relative is None or row.memory is None or row.first_step is None:
        return ("–",) * 5
    memory, first_step = f"{row.memory / 2**30:.2f} GiB", f"{row.first_step:.1f} s"
    return (str(row.processes), f"{row.images_per_second:.1f}", f"{row.relative:.2f}", memory, first_step)
