"""Checks of parts of every kind: what they declare, the options they take, and what building them leaves behind."""

import contextlib
import inspect
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli
import tomli_w
from pydantic import ValidationError

from zoo.recipe import schema
from zoo.registry import kinds
from zoo.testing import backbones, callbacks, data, devices, heads, weights
from zoo.testing.kit import Trial, check, expect
from zoo.testing.network import make
from zoo.testing.state import differences, torch_world, watched, world

BUILD: Mapping[str, Callable[[Trial], Any]] = {
    "backbone": backbones.build,
    "head": heads.build,
    "weights": lambda trial: trial.build(weights.request(trial)),
    "data": data.build,
    "freeze": lambda trial: trial.build(),
    "device": devices.build,
    "export": lambda trial: trial.build(),
    "callback": callbacks.build,
}
"""How a part of each kind is built."""


@check("`zoo list` and the JSON Schema show nothing else of a part")
def described(trial: Trial) -> None:
    """A summary in one line, and a description of every option."""
    part = trial.part
    expect(bool(part.summary) and "\n" not in part.summary, "a summary in one line", repr(part.summary))
    silent = [name for name, field in part.options.model_fields.items() if not field.description]
    expect(not silent, "a docstring below every option", f"none for {silent}")


@check("the options stand in one table with the keys of every part of the kind")
def option_names(trial: Trial) -> None:
    """Options with names that no key of the recipe's table has."""
    taken = {"use", *schema.COMMON[trial.part.kind.name].model_fields} & set(trial.part.options.model_fields)
    expect(not taken, "other names", sorted(taken))


@check("a misspelt key must be an error, not a shrug")
def options_closed(trial: Trial) -> None:
    """Options that refuse an unknown key, and cannot be changed once they are made."""
    model, table = trial.part.options, trial.options.model_dump(mode="json", exclude_none=True)
    try:
        model.model_validate({**table, "no_such_key": 1})
    except ValidationError:
        pass
    else:
        expect(False, "an error for the key no_such_key", "it was taken")
    for name in model.model_fields:
        try:
            setattr(trial.options, name, getattr(trial.options, name))
        except ValidationError:
            continue
        expect(False, "frozen options", f"{name} could be set")


@check("a run writes its recipe, and is repeated from it")
def options_round_trip(trial: Trial) -> None:
    """Options written to TOML with every default, and read back equal."""
    text = tomli_w.dumps(trial.options.model_dump(mode="json", exclude_none=True))
    again = trial.part.options.model_validate(tomli.loads(text))
    expect(again == trial.options, f"{trial.options!r}", repr(again))


ARGUMENTS = {
    "backbone": 2,
    "head": 3,
    "weights": 2,
    "data": 2,
    "freeze": 1,
    "device": 2,
    "export": 1,
    "callback": 2,
}


@check("the builder is called so, whatever else it would take")
def builder(trial: Trial) -> None:
    """A builder with exactly the arguments of its kind, by position."""
    count = ARGUMENTS[trial.part.kind.name]
    signature = inspect.signature(trial.part.builder())
    try:
        signature.bind(*range(count))
    except TypeError as error:
        expect(False, f"a builder of {count} arguments", f"{signature}: {error}")


@check("a part is what its options say: the recipe, the command line and other objects are not its business")
def keeps_to_its_options(trial: Trial) -> None:
    """A builder that reads no recipe.toml, no command line, and searches for no objects."""
    _build(trial)
    with _elsewhere() as recipe, watched(recipe) as seen:
        _build(trial)
    expect(not seen, "nothing but what it is given", seen)


@check("one part's setting is another part's surprise")
def process_untouched(trial: Trial) -> None:
    """Building it changes no setting of the process, no random state, and prints nothing."""
    settings = torch_world()
    _build(trial)  # what is imported now may well set something up, once
    expect(not differences(settings, torch_world()), "torch as it was", differences(settings, torch_world()))
    before, printed = world(), io.StringIO()
    with contextlib.redirect_stdout(printed):
        _build(trial)
    expect(not differences(before, world()), "the process as it was", differences(before, world()))
    expect(not printed.getvalue(), "nothing on standard output", printed.getvalue()[:200])


def _build(trial: Trial) -> None:
    built = make(lambda: BUILD[trial.part.kind.name](trial))
    if trial.part.kind is kinds.DEVICE:
        built.close()


@contextlib.contextmanager
def _elsewhere() -> Iterator[Path]:
    """Work in a folder with a recipe that is none of anyone's business."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.toml"
        recipe.write_text("format = 1\n", encoding="utf-8")
        with contextlib.chdir(folder):
            yield recipe


CHECKS = (
    *(described, option_names, options_closed, options_round_trip, builder, keeps_to_its_options, process_untouched),
)
