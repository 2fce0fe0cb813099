"""`zoo evaluate RUN` and `zoo evaluate BUNDLE DATA`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.say import JsonOption, say, say_error, say_json, say_line, say_table
from zoo.cli.state import State
from zoo.cli.types import DeviceOption, require_word
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.run.measuring import Report

SHOWN = 12
"""Classes up to which the confusion matrix is printed; --json always has it."""


def evaluate(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a bundle of `zoo export`.")],
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="A folder of class folders. [default: the run's validation]")
    ] = None,
    unknown: Annotated[
        str, typer.Option(help="Folders that are no class of the model: error, skip or wrong.")
    ] = "error",
    missing: Annotated[str, typer.Option(help="Classes of the model without a folder: error or allow.")] = "error",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure a run's best weights on its validation images again, or any bundle or run on a folder of images.

    Example: zoo evaluate runs/resnet50_cls
    """
    state: State = context.obj
    require_word("--unknown", unknown, "error", "skip", "wrong")
    require_word("--missing", missing, "error", "allow")
    if data is None:
        _evaluate_run(state, model, device, as_json)
        return
    from zoo.run.bundles import load_any
    from zoo.run.measuring import measure_folder

    predictor = load_any(model, state.registry(), device)
    report = measure_folder(predictor, data, unknown, missing)  # type: ignore[arg-type]
    if as_json:
        say_json(asdict(report))
    else:
        _say(report)
    if report.bad:
        say_error(ZooError.of(report.bad))
        raise typer.Exit(ZooError.exit_code)


def _evaluate_run(state: State, run: Path, device: str, as_json: bool) -> None:
    from zoo.run.folder import existing_folder

    folder = existing_folder(run)
    from zoo.run.trained import evaluate_run

    metrics = evaluate_run(folder, state.registry(), device)
    if as_json:
        say_json(metrics)
        return
    for name, value in metrics.items():
        say(f"{name:<14}  {value:.6g}")


def _say(report: "Report") -> None:
    say_line("images", f"{report.images:,}")
    say_line("accuracy", f"{100 * report.accuracy:.2f} %")
    say_line("calibration", f"expected error {100 * report.ece:.2f} % (15 bins)")
    for name, count in report.unknown.items():
        say_line("unknown", f"{name!r}, {count:,} images: no class of the model")
    for name in report.missing:
        say_line("missing", f"{name!r}: no images")
    say()
    rows = [(one.name, f"{one.images:,}", _share(one.precision), _share(one.recall)) for one in report.classes]
    say_table([("class", "images", "precision", "recall"), *rows])
    if len(report.classes) <= SHOWN:
        say()
        names = [one.name for one in report.classes]
        counted = [(name, *map(str, row)) for name, row in zip(names, report.confusion, strict=True)]
        say_table([("is \\ called", *names), *counted])


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
