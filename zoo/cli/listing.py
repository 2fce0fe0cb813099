"""`zoo list [KIND] [PATTERN]`."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.say import JsonOption, say_json, say_table
from zoo.cli.state import State
from zoo.errors import ZooError, nearest

if TYPE_CHECKING:
    from zoo.registry import Registry


def list_parts(
    context: typer.Context,
    kind: Annotated[str | None, typer.Argument(help="backbone, head, weights, data, freeze, …")] = None,
    pattern: Annotated[str | None, typer.Argument(help="A name or a glob; 'timm/conv*' looks inside a part.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the parts that recipes can name, and what backbones can build.

    Example: zoo list backbone 'timm/convnext*'
    """
    from zoo.registry import kinds

    state: State = context.obj
    if kind is not None and kind not in kinds.BY_NAME:
        raise ZooError(f"there is no kind of part {kind!r}", hint=nearest(kind, kinds.BY_NAME))
    registry = state.registry()
    say_slow(registry)
    chosen = [kind] if kind else list(kinds.BY_NAME)
    if kind and pattern and "/" in pattern:
        names = _variants(registry, kind, pattern)
        say_json(names) if as_json else say_table([name] for name in names)
        return
    rows = _rows(registry, chosen, pattern or "*")
    if as_json:
        say_json([dict(zip(("kind", "name", "owner", "summary"), row, strict=True)) for row in rows])
    else:
        say_table((f"{row[0]} {row[1]}" if not kind else row[1], row[3], row[2]) for row in rows)


def say_slow(registry: "Registry") -> None:
    """Say which plugins did not say in time what they have."""
    for plugin in registry.plugins:
        if plugin.state == "slow":
            typer.echo(f"not listed: {plugin.owner} is slow (see `zoo plugins`)", err=True)


def _rows(registry: "Registry", names: list[str], pattern: str) -> list[tuple[str, str, str, str]]:
    from zoo.registry import kinds

    rows = [
        (name, owned.part.name, str(owned.owner), owned.part.summary)
        for name in names
        for owned in registry.parts(kinds.BY_NAME[name])
        if fnmatchcase(owned.part.name, pattern)
    ]
    if not rows:
        known = {owned.part.name for name in names for owned in registry.parts(kinds.BY_NAME[name])}
        raise ZooError(f"no part matches {pattern!r}", hint=nearest(pattern, known))
    return rows


def _variants(registry: "Registry", kind: str, pattern: str) -> list[str]:
    """Names `part/variant` that match a glob; only the parts that can match are asked, as that may import much."""
    from zoo.registry import kinds

    first = pattern.partition("/")[0]
    names = [
        f"{owned.part.name}/{variant}"
        for owned in registry.parts(kinds.BY_NAME[kind])
        if fnmatchcase(owned.part.name, first)
        for variant in owned.part.list_variants()
    ]
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ZooError(f"nothing matches {pattern!r}", hint=nearest(pattern, names))
    return found
