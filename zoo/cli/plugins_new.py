"""`zoo plugins new NAME --kind KIND`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.say import say, say_line


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The distribution's name, such as zoo-tiny.")],
    kind: Annotated[
        str, typer.Option(help="What it offers: backbone, head, weights, data, freeze, device, export or callback.")
    ],
    into: Annotated[Path | None, typer.Option(help="The project's folder. [default: ./NAME]")] = None,
) -> None:
    """Write a plugin: a whole project with one part, its tests and its packaging.

    Example: zoo plugins new zoo-tiny --kind backbone
    """
    from zoo.scaffold import describe, write

    project = describe(name, kind)
    folder = into or Path(name)
    for path in write(project, folder):
        say(str(path))
    say_line("next", f"cd {shlex.quote(str(folder))} && pip install -e '.[test]' && pytest")
