"""Arguments that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.errors import ZooError

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]


def require_word(option: str, word: str, *known: str) -> None:
    """ZooError: an option's word is none of the known."""
    if word not in known:
        raise ZooError(f"{option} {word} is not understood", hint=" or ".join(known))
