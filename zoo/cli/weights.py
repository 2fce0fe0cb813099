"""`zoo weights`: look into checkpoints and hold them against a model."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.say import JsonOption, say, say_json, say_line, say_table
from zoo.cli.state import State
from zoo.cli.types import require_word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zoo.weights.catalogue import Listed
    from zoo.weights.inspect import Difference, Inspection
    from zoo.weights.likely import Likely

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint.")]
CardArgument = Annotated[str, typer.Argument(metavar="CARD", help="A card's name, or the path of a card's .toml.")]
OtherArgument = Annotated[Path, typer.Argument(metavar="OTHER", help="Another checkpoint.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Tensor by tensor.")]
WhichOption = Annotated[str | None, typer.Option(help="Which set of weights, where there are several: raw, ema, …")]


def GlobOption(text: str) -> Any:  # noqa: N802  it stands where the options do
    """Return an option that may be repeated."""
    return typer.Option(metavar="GLOB", help=f"{text} May be repeated.")


app = typer.Typer(
    help="Find and fetch weights, look into checkpoints, hold them against a model or each other.", no_args_is_help=True
)


@app.command("list")
def list_weights(as_json: JsonOption = False) -> None:
    """List the cards that can be found: what they describe, where the weights come from, and whether they are here.

    Example: zoo weights list
    """
    from zoo.weights.catalogue import list_cards
    from zoo.weights.places import cache_folder, card_folders

    cards = list_cards(card_folders(None), cache_folder())
    if as_json:
        say_json([card.as_dict() for card in cards])
    else:
        say_table(_row(card) for card in cards)


@app.command()
def fetch(name: CardArgument, as_json: JsonOption = False) -> None:
    """Get a card's weights, unless they are here, and compare their SHA-256 with the card's.

    Example: zoo weights fetch resnet50.fashion-mnist
    """
    from zoo.weights.catalogue import fetch as get
    from zoo.weights.places import cache_folder, card_folders

    found = get(name, card_folders(None), cache_folder())
    if as_json:
        say_json(_plain(found))
        return
    say_line("weights", found.origin)
    say_line("file", f"{found.path}, {found.bytes:,} bytes, sha256 {found.sha256}")
    say_line("architecture", found.architecture)
    say_line("licence", found.licence)


@app.command()
def inspect(
    context: typer.Context, file: FileArgument, verbose: VerboseOption = False, as_json: JsonOption = False
) -> None:
    """Show what a checkpoint holds: containers, types, likely architectures, stages, and with -v every tensor's shape.

    Example: zoo weights inspect weights/resnet50.fashion-mnist.safetensors
    """
    from zoo.run.likely import look

    state: State = context.obj
    found, likely = look(state.registry(), file)
    if as_json:
        say_json({**_plain(found), "likely": [_plain(one) for one in likely]})
    else:
        _say_inspection(found, likely, verbose)


@app.command()
def check(
    context: typer.Context,
    file: FileArgument,
    backbone: Annotated[str, typer.Option(metavar="NAME/ARCH", help="Such as timm/resnet50.")],
    head: Annotated[str, typer.Option(help="reset, or keep: the file's classifier must fit as well.")] = "reset",
    which: WhichOption = None,
    may_miss: Annotated[list[str] | None, GlobOption("The file need not have these of the backbone's tensors.")] = None,
    may_drop: Annotated[list[str] | None, GlobOption("The model need not take these of the file's keys.")] = None,
    align: Annotated[str, typer.Option(help="names, or order: pair the tensors one by one.")] = "names",
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say whether a checkpoint would load into a backbone, and what becomes of every tensor; exit status 2 if not.

    Example: zoo weights check weights/resnet50.fashion-mnist.safetensors --backbone timm/resnet50
    """
    require_word("--head", head, "reset", "keep")
    require_word("--align", align, "names", "order")
    from zoo.recipe.schema import WeightsTable
    from zoo.registry.contracts import WeightsFile
    from zoo.run.weights import check_weights

    state: State = context.obj
    table = WeightsTable(
        head="keep" if head == "keep" else "reset", which=which, may_miss=may_miss or [], may_drop=may_drop or []
    )
    checked = WeightsFile(file, origin=f"file {file}", align="order" if align == "order" else "names")
    ledger = check_weights(state.registry(), backbone, checked, table)
    if as_json:
        say_json(ledger.as_dict())
    else:
        say(ledger.table(verbose))


@app.command()
def diff(file: FileArgument, other: OtherArgument, verbose: VerboseOption = False, as_json: JsonOption = False) -> None:
    """Show how far two checkpoints lie apart, by stage, with -v by tensor; exit status 1 when they differ (diff(1)).

    Example: zoo weights diff weights/resnet50.fashion-mnist.safetensors weights/resnet50.fashion-mnist.safetensors
    """
    from zoo.weights.inspect import diff as compare

    found = compare(file, other)
    if as_json:
        say_json({**_plain(found), "identical": found.is_identical()})
    else:
        _say_difference(found, verbose)
    if not found.is_identical():
        raise typer.Exit(1)


@app.command()
def apply(
    context: typer.Context,
    delta: Annotated[Path, typer.Argument(metavar="DELTA", help="A bundle's delta.safetensors, or the bundle.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The safetensors file to write.")],
    base: Annotated[
        Path | None, typer.Option(help="The base weights' file. [default: where the run's recipe has them from]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a delta and its base weights together: the bytes that a full export has, or nothing.

    Example: zoo weights apply runs/resnet50_cls/export/delta.safetensors model.safetensors
    """
    from zoo.run.bundles import apply_delta

    state: State = context.obj
    digest = apply_delta(delta, out, base, state.registry())
    if as_json:
        say_json({"file": out, "sha256": digest})
        return
    say_line("wrote", f"{out}, sha256 {digest}, as it was exported")


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
    from zoo.weights.conversion import convert as write

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


def _row(listed: "Listed") -> tuple[str, ...]:
    card = listed.card
    if card is None:
        return (listed.name, *[""] * 5, listed.problem)
    state = listed.problem or ("here" if listed.here else "not here")
    size = f"{card.bytes / 1e6:.1f} MB"
    return listed.name, card.architecture, size, card.licence, listed.metric, listed.source, state


def _plain(found: Any) -> dict[str, Any]:
    return asdict(found)


def _say_inspection(found: "Inspection", likely: "Iterable[Likely]", verbose: bool) -> None:
    say_line("file", f"{found.path}, {found.bytes:,} bytes, sha256 {found.sha256}")
    if found.inside:
        say_line("inside", found.inside)
    say_line("tensors", f"{found.tensors:,}, {found.elements:,} elements, {_counted(found.dtypes)}")
    if found.wrapped:
        say_line("wrapped", f"{found.wrapped:,} names have segments of DDP, torch.compile or the like")
    if found.others:
        say_line("others", ", ".join(found.others))
    for one in likely:
        say_line("likely", str(one))
    say_table((stage.name, f"{stage.tensors} tensors", f"{stage.elements:,} elements") for stage in found.stages)
    if verbose:
        say_table((name, " × ".join(map(str, shape)) or "scalar") for name, shape in found.shapes.items())


def _counted(types: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in types.items())


def _say_difference(found: "Difference", verbose: bool) -> None:
    say_table(
        (stage.name, f"{stage.identical} of {stage.tensors} identical", _apart(stage.relative))
        for stage in found.stages
    )
    if verbose:
        say_table((one.name, "identical" if one.identical else _apart(one.relative)) for one in found.tensors)
    lines = (("only first", found.only_first), ("only second", found.only_second), ("other shape", found.misshapen))
    for label, names in lines:
        if names:
            say_line(label, ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else ""))


def _apart(relative: float) -> str:
    return f"apart by {100 * relative:.3g} %"
