"""`zoo evaluate RUN`."""

import typer

from zoo.cli.say import JsonOption, say, say_json
from zoo.cli.state import State
from zoo.cli.types import DeviceOption, RunArgument


def evaluate(
    context: typer.Context, run: RunArgument, device: DeviceOption = "auto", as_json: JsonOption = False
) -> None:
    """Measure a run's best weights on its validation images again.

    Example: zoo evaluate runs/resnet50_cls
    """
    from zoo.run.folder import existing_folder

    state: State = context.obj
    folder = existing_folder(run)
    from zoo.run.trained import evaluate_run

    metrics = evaluate_run(folder, state.registry(), device)
    if as_json:
        say_json(metrics)
        return
    for name, value in metrics.items():
        say(f"{name:<14}  {value:.6g}")
