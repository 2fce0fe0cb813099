"""`zoo plugins`."""

import typer

from zoo.cli.say import JsonOption, say_json, say_table
from zoo.cli.state import State


def plugins(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the installed plugins: who they are, what they offer, and why one is not loaded.

    Example: zoo plugins
    """
    state: State = context.obj
    found = [
        {
            "plugin": plugin.owner.plugin,
            "distribution": plugin.owner.distribution,
            "version": plugin.owner.version,
            "state": plugin.state,
            "reason": plugin.reason,
            "parts": [f"{part.kind.name} {part.name}" for part in plugin.parts],
            "seconds": round(plugin.seconds, 3),
        }
        for plugin in state.registry().plugins
    ]
    if as_json:
        say_json(found)
        return
    for row in found:
        parts = row["parts"]
        row["about"] = f"{len(parts)} parts" if isinstance(parts, list) and parts else row["reason"]
    columns = ("plugin", "distribution", "version", "state", "about")
    say_table(tuple(str(row[column]) for column in columns) for row in found)
