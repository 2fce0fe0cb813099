"""`zoo export RUN`."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.say import JsonOption, said_aloud, say_json, say_line
from zoo.cli.state import State
from zoo.cli.types import RunArgument
from zoo.errors import ZooError


def export(
    context: typer.Context,
    run: RunArgument,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="An exporter, by name. May be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder for the artefacts. [default: RUN/export]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's best weights as artefacts, each read back and compared with the model on real images.

    Example: zoo export runs/resnet50_cls
    """
    from zoo.run.folder import existing_folder

    state: State = context.obj
    folder = existing_folder(run)
    from zoo.run.trained import export_run

    with said_aloud(as_json):
        written = export_run(folder, state.registry(), formats or [], out)
    if not written:
        raise ZooError("the run's recipe names no artefact", where=str(folder.recipe), hint="name one with --format")
    if as_json:
        say_json([vars(artefact) for artefact in written])
        return
    say_line("load it", "as `build` in model.json says, then load_state_dict(…, strict=True)")
