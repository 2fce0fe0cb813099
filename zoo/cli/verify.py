"""`zoo verify BUNDLE`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.say import JsonOption, say_error, say_json, say_table
from zoo.cli.state import State
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.bundle import Outcome

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder or zip that `zoo export` made.")]


def verify(
    context: typer.Context,
    bundle: BundleArgument,
    runtime: Annotated[
        str | None, typer.Option(help="Only what this package runs: torch, timm, torchvision, onnxruntime.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a bundle's golden images, from their bytes on, and compare the answers with those of the trained model.

    Example: zoo verify runs/resnet50_cls/export
    """
    from zoo.bundle import opened
    from zoo.run.bundles import outcomes_of

    state: State = context.obj
    with opened(bundle, state.registry()) as found:
        outcomes, problems = outcomes_of(found, runtime=runtime)
    if as_json:
        say_json([_plain(outcome) for outcome in outcomes])
    else:
        say_table(
            (
                o.artefact,
                o.runtime,
                f"{o.images} images",
                f"logits differ by {o.difference:.1g}",
                "ok" if o.ok else "no",
            )
            for o in outcomes
        )
    if problems:
        say_error(ZooError.of(problems))
        raise typer.Exit(ZooError.exit_code)


def _plain(outcome: "Outcome") -> dict[str, Any]:
    """Return what JSON can hold: no number for a difference that has none."""
    difference = outcome.difference if math.isfinite(outcome.difference) else None
    return {**vars(outcome), "difference": difference, "ok": outcome.ok}
