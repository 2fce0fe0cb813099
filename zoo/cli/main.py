"""`zoo`: the command, its verbs, and how failures end."""

import os
from typing import Annotated, NoReturn

import typer

from zoo import __version__
from zoo.cli import (
    audit,
    bench,
    check,
    devices,
    evaluate,
    export,
    finetune,
    listing,
    plan,
    plugins,
    predict,
    process,
    prove,
    schema,
    verify,
    weights,
)
from zoo.cli.say import say_error
from zoo.cli.state import PLUGIN_HELP, State
from zoo.cli.verbs import Verbs
from zoo.errors import EXIT_FAULT, EXIT_INTERRUPTED, ZooError
from zoo.memory import settle

COMPLETING = "_ZOO_COMPLETE"
"""The environment variable by which a shell asks for completions."""

app = typer.Typer(
    cls=Verbs,
    help="Fine-tune a model from a TOML recipe: it cannot silently go wrong, and it wastes no work.",
    epilog="Example: zoo finetune recipes/resnet50_cls.toml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("finetune")(finetune.finetune)
app.command("check")(check.check)
app.command("plan")(plan.plan)
app.command("list")(listing.list_parts)
app.command("devices")(devices.devices)
app.add_typer(plugins.app, name="plugins")
app.command("schema")(schema.schema)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("evaluate")(evaluate.evaluate)
app.command("audit")(audit.audit)
app.command("prove")(prove.prove)
app.command("bench")(bench.bench)
app.command("predict")(predict.predict)
app.add_typer(weights.app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zoo {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    plugin: Annotated[
        list[str] | None,
        typer.Option(  # eager, so that `-p no:NAME --help` leaves the plugin's verbs out
            "-p", "--plugin", metavar="no:NAME|FILE.py", is_eager=True, help=PLUGIN_HELP
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    context.obj = State.of(plugin or [])


def run(arguments: list[str] | None = None) -> int:
    """Run the command with `arguments` (those of the process when None) and return its exit status.

    0 done, 1 a fault of zoo or a plugin (a traceback), 2 refused, 130 interrupted.
    """
    try:
        status = app(args=arguments, prog_name="zoo", standalone_mode=False)
    except ZooError as error:
        say_error(error)
        return error.exit_code
    except SystemExit as error:
        if COMPLETING in os.environ:
            raise
        # typer raises none but for a shell that completes: a plugin's part did
        typer.echo(f"error: a part of a plugin ended the process with sys.exit({error.code!r})", err=True)
        return EXIT_FAULT
    except (KeyboardInterrupt, typer.Abort):
        status = EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  some versions of typer carry a click of their own: no class to name
        return _refused_by_click(error)
    if status == EXIT_INTERRUPTED:  # some versions of typer answer Ctrl-C with it
        typer.echo("interrupted", err=True)
    return status if isinstance(status, int) else 0


def _refused_by_click(error: Exception) -> int:
    """click's own refusals (unknown option, missing argument) show themselves; anything else is a fault."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is None or code is None:
        raise error
    show()
    return int(code)


def main() -> NoReturn:
    """Entry point of the `zoo` command. Output cut short by its reader (`zoo … | head`) is no failure."""
    settle()
    process.leave(run())
