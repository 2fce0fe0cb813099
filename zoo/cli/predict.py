"""`zoo predict BUNDLE IMAGE…`."""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.say import JsonOption, say, say_error, say_json, say_table
from zoo.cli.state import State
from zoo.cli.types import DeviceOption
from zoo.errors import Problem, ZooError

if TYPE_CHECKING:
    from zoo.run.predict import Answer


def predict(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle of `zoo export`, or a run's folder.")],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, globs, or - for a list on standard input.")
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes shown for each image.")] = 1,
    device: DeviceOption = "auto",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, as the answers come.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say which class each image shows. What cannot be decoded is said at the end, and the exit status is then 2.

    Example: zoo predict runs/resnet50_cls/export photo.jpg --top 3
    """
    from zoo.run.bundles import load_any
    from zoo.run.predict import classify, find_images

    state: State = context.obj
    files = find_images(images, sys.stdin if "-" in images else ())
    predictor = load_any(model, state.registry(), device)
    problems: list[Problem] = []
    answers = _good(_counted(classify(predictor, files, top), len(files)), problems)
    _print(answers, min(top, len(predictor.classes)), as_csv, as_json)
    if problems:
        say_error(ZooError.of(problems))
        raise typer.Exit(ZooError.exit_code)


def _print(answers: "Iterable[Answer]", top: int, as_csv: bool, as_json: bool) -> None:
    if as_json:
        say_json([{"image": answer.image, "classes": dict(answer.classes)} for answer in answers])
    elif as_csv:
        numbered = [f"{word}_{place}" for place in range(1, top + 1) for word in ("class", "probability")]
        say(_row(["image", *numbered]))
        for answer in answers:
            cells = [cell for name, share in answer.classes for cell in (name, f"{share:.6f}")]
            say(_row([str(answer.image), *cells]))
    else:
        say_table((str(answer.image), *_words(answer.classes)) for answer in answers)


def _row(cells: Sequence[str]) -> str:
    file = StringIO()
    csv.writer(file, lineterminator="").writerow(cells)
    return file.getvalue()


def _good(found: "Iterable[Answer | Problem]", problems: list[Problem]) -> "Iterator[Answer]":
    """Yield the answers, and put the problems aside."""
    for one in found:
        if isinstance(one, Problem):
            problems.append(one)
        else:
            yield one


def _counted(found: "Iterable[Answer | Problem]", count: int) -> "Iterator[Answer | Problem]":
    """Show on a terminal's standard error how many are done, where there are several."""
    if count == 1 or not sys.stderr.isatty():
        yield from found
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(found, total=count, description="images")


def _words(classes: tuple[tuple[str, float], ...]) -> list[str]:
    return [f"{name} {100 * share:.1f} %" for name, share in classes]
