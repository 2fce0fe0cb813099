"""`zoo plan RECIPE` and `zoo plan OLD NEW`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli import plan_text
from zoo.cli.finetune import SetOption
from zoo.cli.say import JsonOption, say, say_json, say_line, say_table
from zoo.cli.state import State
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.recipe import Recipe
    from zoo.run.preview import Preview


def plan(
    context: typer.Context,
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE [OTHER]", help="A recipe, or two to compare.")],
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would do: what trains when, memory, steps, the weights' ledger; or how two runs would differ.

    Nothing is trained, downloaded or written, and no image is decoded. --set changes every recipe that is named.

    Example: zoo plan recipes/resnet50_cls.toml --set optim.lr=1e-4
    """
    if len(recipes) > 2:
        hint = "zoo plan RECIPE shows one, zoo plan OLD NEW the difference of two"
        raise ZooError(f"{len(recipes)} recipes cannot be planned at once", hint=hint)
    from zoo.recipe import load_recipe

    state: State = context.obj
    registry = state.registry()
    resolved = [load_recipe(path, registry, settings or []) for path in recipes]
    from zoo.run.preview import preview

    found = [preview(recipe) for recipe in resolved]
    if len(found) == 2:
        _compare(resolved[0], resolved[1], found[0], found[1], as_json)
    elif as_json:
        say_json(found[0].as_dict())
    else:
        _show(found[0])


def _show(preview: "Preview") -> None:
    for label, text in plan_text.head_lines(preview):
        say_line(label, text)
    say()
    say_table(plan_text.stage_rows(preview))
    say()
    for label, text in plan_text.plan_lines(preview):
        say_line(label, text)
    for line in plan_text.ledger_lines(preview):
        say(line)
    say()
    say_line("rate", plan_text.curve_text(preview))
    for line in plan_text.curve_lines(preview):
        say(line)


def _compare(old: "Recipe", new: "Recipe", before: "Preview", after: "Preview", as_json: bool) -> None:
    from zoo.run.resume import differences

    keys = differences(old.to_table(), new.to_table())
    plans = plan_text.differing(before, after)
    if as_json:
        say_json(
            {
                "recipe": [{"key": key, "old": was, "new": now} for key, was, now in keys],
                "plan": [{"what": what, "old": was, "new": now} for what, was, now in plans],
            }
        )
        return
    if not keys and not plans:
        say("the recipes and their plans are the same")
    for key, was, now in keys:
        say_line("recipe", f"{key}: {plan_text.value_text(was)} → {plan_text.value_text(now)}")
    for what, was, now in plans:
        say_line("plan", f"{what}: {was} → {now}")
