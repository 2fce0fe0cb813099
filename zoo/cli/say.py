"""What the command prints: plain lines on standard output, refusals on standard error, JSON for scripts."""

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from zoo.errors import ZooError

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def say(text: str = "") -> None:
    """Print a line, unless nobody reads standard output any more."""
    with cut_short():
        typer.echo(text)


@contextmanager
def cut_short() -> Iterator[None]:
    """When the reader of standard output has gone (`zoo … | head`), send this and all that follows nowhere."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_line(label: str, text: str) -> None:
    """Print a line as a run does: what it is about, and what there is to know."""
    say(f"{label:<12} {text}")


def say_json(value: Any) -> None:
    """Print a value as JSON."""
    say(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def say_error(error: ZooError) -> None:
    """Print every problem of a refusal on standard error, and how many when there are several."""
    for problem in error.problems:
        label = typer.style("error:", fg=typer.colors.RED, bold=True)
        typer.echo(f"{label} {problem}", err=True)
    if len(error.problems) > 1:
        typer.echo(f"{len(error.problems)} errors", err=True)


def say_table(rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns as wide as their widest cell; the last column runs free."""
    listed = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)][:-1] if listed else []
    for row in listed:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        say("  ".join([*cells, row[-1]]).rstrip())


class _Lines(logging.Handler):
    """Prints what zoo logs; `print` finds the standard output of the moment, which a live bar may have redirected."""

    def emit(self, record: logging.LogRecord) -> None:
        with cut_short():  # a run goes on without its reader: log.txt has it all
            print(self.format(record), file=sys.stdout, flush=True)


@contextmanager
def said_aloud(quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Print what is logged under `zoo` while the block runs; `verbose` adds every tensor's entry."""
    logger, handler = logging.getLogger("zoo"), _Lines()
    before = logger.level
    if not quiet:
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
