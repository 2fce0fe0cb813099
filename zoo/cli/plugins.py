"""`zoo plugins` and what is below it."""

from typing import TYPE_CHECKING, Any

import typer

from zoo.cli import plugins_new, plugins_test
from zoo.cli.say import JsonOption, say, say_json, say_line, say_table
from zoo.cli.state import State
from zoo.errors import EXIT_REFUSED

if TYPE_CHECKING:
    from zoo.registry.doctor import Finding

SHOWN = 4
"""Parts of a plugin that are named in the table; --json has all."""

app = typer.Typer(invoke_without_command=True)


@app.callback()
def plugins(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the installed plugins: who they are, what they offer, and why one is not loaded.

    Example: zoo plugins
    """
    if context.invoked_subcommand is not None:
        return
    state: State = context.obj
    rows = _rows(state)
    if as_json:
        say_json(rows)
        return
    columns = ("plugin", "distribution", "version", "state", "time", "about")
    say_table(tuple(_cell(row, column) for column in columns) for row in rows)


@app.command()
def doctor(context: typer.Context, as_json: JsonOption = False) -> None:
    """Say how to mend each plugin that is not ok; exit status 2 when one is broken, slow, clashing or there twice.

    One that is left out, or does not say which API it was built for, is named and is no failure.

    Example: zoo plugins doctor
    """
    from zoo.registry.doctor import examine

    state: State = context.obj
    found = state.registry().plugins
    findings = examine(found)
    if as_json:
        say_json([{**_who(finding), **_what(finding)} for finding in findings])
    elif findings:
        _say(findings)
    else:
        say(f"all {len(found)} plugins are ok")
    if any(finding.fails for finding in findings):
        raise typer.Exit(EXIT_REFUSED)


app.command("test")(plugins_test.try_plugins)
app.command("new")(plugins_new.new)


def _rows(state: State) -> list[dict[str, Any]]:
    """Return what there is to say of every plugin. "clash" stands for ok: all other parts work."""
    from zoo.registry.clashes import find_clashes

    found = state.registry().plugins
    clashes = find_clashes(found)
    return [
        {
            "plugin": plugin.owner.plugin,
            "distribution": plugin.owner.distribution,
            "version": plugin.owner.version,
            "state": "clash" if plugin.owner in clashes else plugin.state,
            "reason": "; ".join(map(str, clashes.get(plugin.owner, ()))) or plugin.reason,
            "where": plugin.where,
            "api": plugin.api,
            "shadowed": plugin.shadowed,
            "parts": [f"{part.kind.name} {part.name}" for part in plugin.parts],
            "seconds": round(plugin.seconds, 3),
        }
        for plugin in found
    ]


def _cell(row: dict[str, Any], column: str) -> str:
    if column == "time":
        return f"{row['seconds']:.2f} s"
    if column != "about":
        return str(row[column])[:12] if column == "version" and len(row[column]) == 64 else str(row[column])
    parts = row["parts"]
    more = f", … ({len(parts)} parts)" if len(parts) > SHOWN else ""
    words = [row["reason"], ", ".join(parts[:SHOWN]) + more, *(f"lies twice: not {place}" for place in row["shadowed"])]
    return "; ".join(word for word in words if word)


def _say(findings: "list[Finding]") -> None:
    for finding in findings:
        say(f"{finding.owner}: {finding.trouble}")
        if finding.where:
            say_line("  where", finding.where)
        say_line("  mend", finding.mend)


def _who(finding: "Finding") -> dict[str, str]:
    owner = finding.owner
    return {"plugin": owner.plugin, "distribution": owner.distribution, "version": owner.version}


def _what(finding: "Finding") -> dict[str, Any]:
    return {"trouble": finding.trouble, "where": finding.where, "mend": finding.mend, "fails": finding.fails}
