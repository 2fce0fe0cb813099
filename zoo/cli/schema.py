"""`zoo schema`."""

import typer

from zoo.cli.listing import say_slow
from zoo.cli.say import say_json
from zoo.cli.state import State


def schema(context: typer.Context) -> None:
    """Print the JSON Schema of a recipe with the installed parts, for editors that complete and check TOML.

    Example: zoo schema > recipe.schema.json
    """
    from zoo.recipe.jsonschema import recipe_schema

    state: State = context.obj
    registry = state.registry()
    say_slow(registry)
    say_json(recipe_schema(registry))
