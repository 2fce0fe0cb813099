"""`zoo check RECIPE…`."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.finetune import SetOption
from zoo.cli.say import JsonOption, say, say_json
from zoo.cli.state import State
from zoo.errors import Problem, ZooError


def check(
    context: typer.Context,
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="TOML recipes.")],
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check recipes whole: every key, type, range and name, all errors at once; without torch, data or weights.

    Example: zoo check recipes/resnet50_cls.toml
    """
    from zoo.recipe import load_recipe

    state: State = context.obj
    registry = state.registry()
    found: dict[str, list[Problem]] = {}
    for recipe in recipes:
        found[str(recipe)] = []
        try:
            load_recipe(recipe, registry, settings or [])
        except ZooError as error:
            found[str(recipe)] = list(error.problems)
    problems = [problem for listed in found.values() for problem in listed]
    if as_json:
        say_json({name: [vars(problem) for problem in listed] for name, listed in found.items()})
        raise typer.Exit(ZooError.exit_code if problems else 0)
    for name in (name for name, listed in found.items() if not listed):
        say(f"{name}: ok")
    if problems:
        raise ZooError.of(problems)
