"""`zoo export RUN`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.say import JsonOption, said_aloud, say_json, say_line
from zoo.cli.state import State
from zoo.cli.types import RunArgument, require_word
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.run.trained import Weights


def export(
    context: typer.Context,
    run: RunArgument,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="An exporter, by name. May be repeated.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="best, last, or ema: the best one's moving average.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The bundle's folder, or a .zip to make. [default: RUN/export]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's weights as a bundle: every format read back and compared on real images, from their bytes on.

    Example: zoo export runs/resnet50_cls --format safetensors --format pt2
    """
    from zoo.run.folder import existing_folder

    state: State = context.obj
    if weights is not None:
        require_word("--weights", weights, "best", "last", "ema")
    folder = existing_folder(run)
    from zoo.run.exporting import export_run

    chosen: Weights | None = weights  # type: ignore[assignment]
    with said_aloud(as_json):
        written = export_run(folder, state.registry(), formats or [], out, chosen)
    if not written:
        raise ZooError("the run's recipe names no artefact", where=str(folder.recipe), hint="name one with --format")
    if as_json:
        say_json([vars(artefact) for artefact in written])
        return
    bundle = out or folder.export
    say_line("next", f"zoo verify {bundle}   zoo predict {bundle} IMAGE…")
