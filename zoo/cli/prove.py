"""`zoo prove RECIPE`."""

from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

import typer

from zoo.cli.finetune import SetOption
from zoo.cli.say import JsonOption, say_json, say_line
from zoo.cli.state import State
from zoo.errors import RunError


def prove(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML recipe.")],
    settings: SetOption = None,
    kills: Annotated[int, typer.Option(min=1, help="How many times the run is killed.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the moments at which it is killed.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A folder for the runs. [default: a temporary one]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that a stopped run goes on to the same bits: run a recipe whole, then with kill -9 at random moments.

    Example: zoo prove recipes/resnet50_cls.toml --kills 5
    """
    from zoo.run.prove import prove as prove_recipe

    state: State = context.obj
    folder = out or Path(mkdtemp(prefix="zoo-prove-"))
    tell = (lambda label, text: None) if as_json else say_line
    proof = prove_recipe(recipe, folder, kills, settings or [], seed, tell, state.registry())
    if as_json:
        say_json(asdict(proof))
    if proof.different:
        what = f"a resumed run is another run: {', '.join(proof.different)} differ from {proof.whole}"
        raise RunError(what, hint="look for what depends on the time or on random numbers without a seed: a plugin?")
    if not as_json:
        say_line("proved", f"{len(proof.kills)} kills in {proof.runs} runs: each ended with the files of the whole run")
