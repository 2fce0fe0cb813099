"""`zoo predict RUN IMAGE…`."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.say import JsonOption, say_error, say_json, say_table
from zoo.cli.state import State
from zoo.cli.types import DeviceOption, RunArgument
from zoo.errors import ZooError


def predict(
    context: typer.Context,
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="Classes shown for each image.")] = 1,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say which class each image shows, by a run's best weights.

    Example: zoo predict runs/resnet50_cls photo.jpg --top 3
    """
    from zoo.run.folder import existing_folder

    state: State = context.obj
    folder = existing_folder(run)
    from zoo.run.predict import predict_images

    answers, bad = predict_images(folder, state.registry(), images, top, device)
    if as_json:
        rows = [{"image": answer.image, "classes": dict(answer.classes)} for answer in answers]
        say_json(rows)
    else:
        say_table((str(answer.image), *_words(answer.classes)) for answer in answers)
    if bad:
        say_error(ZooError.of(bad))
        raise typer.Exit(ZooError.exit_code)


def _words(classes: tuple[tuple[str, float], ...]) -> list[str]:
    return [f"{name} {100 * share:.1f} %" for name, share in classes]
