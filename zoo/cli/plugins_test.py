"""`zoo plugins test [NAME…]`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.say import JsonOption, say, say_json
from zoo.cli.state import State
from zoo.errors import EXIT_REFUSED, ZooError

if TYPE_CHECKING:
    from zoo.testing.cases import AnyCase


def try_plugins(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Plugins or distributions. [default: all but zoo]")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Leave out the checks that start further processes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Hold installed plugins to everything that zoo asks of a part; exit status 2 when one fails.

    Example: zoo plugins test onnx --fast
    """
    from zoo.testing.cases import all_cases, find_plugins

    state: State = context.obj
    registry = state.registry()
    others = [one.awaited() for one in registry.plugins if not one.owner.is_zoo and one.state != "blocked"]
    named = [plugin for name in names or () for plugin in find_plugins(registry, name)]
    chosen = {plugin.owner: plugin for plugin in (named if names else others)}
    if not chosen:
        raise ZooError("no plugin is installed but zoo's own", hint="`zoo plugins test zoo` tries that one")
    found = [_outcome(case) for plugin in chosen.values() for case in all_cases(plugin) if not (fast and case.slow)]
    if as_json:
        say_json(found)
    else:
        _say(found)
    if any(outcome["outcome"] == "failed" for outcome in found):
        raise typer.Exit(EXIT_REFUSED)


def _outcome(case: "AnyCase") -> dict[str, Any]:
    from zoo.testing import ConformanceError, NotTriedError

    about = {"about": str(case).partition(":")[0], "check": case.name}
    try:
        case.run()
    except NotTriedError as reason:
        return {**about, "outcome": "not tried", "reason": str(reason)}
    except ConformanceError as error:
        notes = getattr(error, "__notes__", [])
        return {**about, "outcome": "failed", "reason": "\n".join([str(error), *notes])}
    return {**about, "outcome": "ok", "reason": ""}


def _say(found: list[dict[str, Any]]) -> None:
    for about in dict.fromkeys(outcome["about"] for outcome in found):
        own = [outcome for outcome in found if outcome["about"] == about]
        counts = [(word, sum(outcome["outcome"] == word for outcome in own)) for word in ("ok", "failed", "not tried")]
        say(f"{about}: {', '.join(f'{count} {word}' for word, count in counts if count)}")
        for outcome in own:
            if outcome["outcome"] != "ok":
                said = outcome["reason"].replace("\n", "\n    ")
                say(f"  {outcome['check']}: {said}" if outcome["outcome"] == "not tried" else f"  failed: {said}")
