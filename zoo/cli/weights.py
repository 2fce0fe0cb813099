"""`zoo weights`: look into checkpoints and hold them against a model."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.say import JsonOption, say, say_json, say_line, say_table
from zoo.cli.state import State
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.weights.inspect import Difference, Inspection

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint.")]
OtherArgument = Annotated[Path, typer.Argument(metavar="OTHER", help="Another checkpoint.")]

WhichOption = Annotated[str | None, typer.Option(help="Which set of weights, where there are several: raw, ema, …")]

app = typer.Typer(help="Look into checkpoints, and hold them against a model or each other.", no_args_is_help=True)


@app.command()
def inspect(
    file: FileArgument, verbose: Annotated[bool, typer.Option("-v", "--verbose")] = False, as_json: JsonOption = False
) -> None:
    """Show what a checkpoint holds: containers, stages, types, and with -v every tensor's shape.

    Example: zoo weights inspect weights/resnet50.fashion-mnist.safetensors
    """
    from zoo.weights.inspect import inspect as look

    found = look(file)
    if as_json:
        say_json(_plain(found))
    else:
        _say_inspection(found, verbose)


@app.command()
def check(
    context: typer.Context,
    file: FileArgument,
    backbone: Annotated[str, typer.Option(metavar="NAME/ARCH", help="Such as timm/resnet50.")],
    head: Annotated[str, typer.Option(help="reset, or keep: the file's classifier must fit as well.")] = "reset",
    as_json: JsonOption = False,
) -> None:
    """Say whether a checkpoint would load into a backbone, and what becomes of every tensor; exit status 2 if not.

    Example: zoo weights check weights/resnet50.fashion-mnist.safetensors --backbone timm/resnet50
    """
    if head not in ("reset", "keep"):
        raise ZooError(f"--head {head} is not understood", hint="reset or keep")
    from zoo.run.weights import check_weights

    state: State = context.obj
    ledger = check_weights(state.registry(), backbone, file, "keep" if head == "keep" else "reset")
    if as_json:
        say_json(ledger.as_dict())
    else:
        say(ledger.table())


@app.command()
def diff(file: FileArgument, other: OtherArgument, as_json: JsonOption = False) -> None:
    """Show how far two checkpoints lie apart, stage by stage; exit status 1 when they differ, as diff(1) has it.

    Example: zoo weights diff weights/resnet50.fashion-mnist.safetensors weights/resnet50.fashion-mnist.safetensors
    """
    from zoo.weights.inspect import diff as compare

    found = compare(file, other)
    if as_json:
        say_json({**_plain(found), "identical": found.is_identical()})
    else:
        _say_difference(found)
    if not found.is_identical():
        raise typer.Exit(1)


@app.command()
def convert(
    file: FileArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="OUT.safetensors and OUT.json are written.")],
    which: WhichOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the tensors out of a file that asks for code to be run, without running any, into safetensors and JSON.

    Example: zoo weights convert old.pth old
    """
    from zoo.weights.convert import convert as write

    converted = write(file, out, which)
    if as_json:
        say_json(converted.as_dict())
        return
    say_line("wrote", f"{converted.weights}, {converted.tensors:,} tensors, {converted.elements:,} elements")
    say_line("record", str(converted.record))
    for dropped in converted.dropped:
        say_line("dropped", f"{dropped.key}: {dropped.why}")
    if converted.named:
        say_line("not run", ", ".join(converted.named))


def _plain(found: Any) -> dict[str, Any]:
    return asdict(found)


def _say_inspection(found: "Inspection", verbose: bool) -> None:
    say_line("file", f"{found.path}, {found.bytes:,} bytes, sha256 {found.sha256}")
    if found.inside:
        say_line("inside", found.inside)
    say_line("tensors", f"{found.tensors:,}, {found.elements:,} elements, {_counted(found.dtypes)}")
    if found.wrapped:
        say_line("wrapped", f"{found.wrapped:,} names have segments of DDP, torch.compile or the like")
    if found.others:
        say_line("others", ", ".join(found.others))
    say_table((stage.name, f"{stage.tensors} tensors", f"{stage.elements:,} elements") for stage in found.stages)
    if verbose:
        say_table((name, " × ".join(map(str, shape)) or "scalar") for name, shape in found.shapes.items())


def _counted(types: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in types.items())


def _say_difference(found: "Difference") -> None:
    say_table(
        (stage.name, f"{stage.identical} of {stage.tensors} identical", f"apart by {stage.relative:.2%}")
        for stage in found.stages
    )
    lines = (("only first", found.only_first), ("only second", found.only_second), ("other shape", found.misshapen))
    for label, names in lines:
        if names:
            say_line(label, ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else ""))
