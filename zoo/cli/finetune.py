"""`zoo finetune RECIPE`."""

import os
import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.say import JsonOption, said_aloud, say, say_json, say_line
from zoo.cli.state import State
from zoo.memory import preload

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace one key, such as optim.lr=1e-4. May be repeated."),
]


def finetune(
    context: typer.Context,
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE", help="A TOML recipe, or RUN/recipe.toml to repeat a run; with --resume, RUN."),
    ],
    settings: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. [default: a new one below runs/]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run RUN, or with the one in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print what became of every tensor of the weights.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model as a recipe says, and export it.

    Example: zoo finetune recipes/resnet50_cls.toml --set run.epochs=2
    """
    from zoo.recipe import load_recipe
    from zoo.registry.parts import DevicePart

    if resume and out is None and recipe.is_dir():
        recipe, out = recipe / "recipe.toml", recipe
    state: State = context.obj
    registry = state.registry()
    resolved = load_recipe(recipe, registry, settings or [])
    changes = [setting.partition("=")[0].strip() for setting in settings or []]
    if isinstance(resolved.device.part, DevicePart) and resolved.device.part.processes and "RANK" not in os.environ:
        preload()
    from zoo.run import finetune as run_recipe

    result = run_recipe(
        resolved,
        out,
        registry=registry,
        resume=resume,
        overwrite=overwrite,
        changes=changes,
        aloud=partial(said_aloud, quiet or as_json, verbose),
    )
    if not result.is_main:
        return
    best = result.ended.best
    metrics = dict(best.metrics) if best else {}
    if as_json:
        artefacts = [str(file) for artefact in result.artefacts for file in artefact.files]
        ended = {"reason": result.ended.reason, "seconds": round(result.ended.seconds, 1)}
        say_json({"run": result.folder, **ended, "best": metrics, "artefacts": artefacts})
        return
    value = metrics.get(resolved.run.best_by, float("nan"))
    shown = f"{100 * value:.2f} %" if resolved.run.best_by.endswith("accuracy") else f"{value:.4g}"
    run = shlex.quote(str(result.folder))
    say(f"\n{resolved.run.best_by} {shown} (epoch {best.epoch + 1 if best else 0}, {result.ended.reason})")
    say_line("run", str(result.folder))
    say_line("next", f"zoo predict {run} IMAGE…   zoo evaluate {run}   zoo export {run}")
