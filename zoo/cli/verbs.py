"""Verbs that other distributions add to the command, by the entry-point group `zoo.commands`.

A distribution names a function with typer's annotations, the `typer.Context` its first parameter, or a `typer.Typer`:

    [project.entry-points."zoo.commands"]
    serve = "zoo_serve.command:serve"

It is imported when its verb is called, and at no other time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from zoo.cli.state import State
from zoo.errors import PluginError
from zoo.installed import named

GROUP = "zoo.commands"
TO_BE_HAD = {"serve": "zoo-serve"}
"""Verbs of plugins that are zoo's own, and the distributions that have them."""


@dataclass(frozen=True)
class Verb:
    """A verb that is not imported yet: its name, who offers it, and how to get its function."""

    name: str
    distribution: str
    version: str
    load: Callable[[], Any]

    @property
    def owner(self) -> str:
        """The distribution with its version."""
        return f"{self.distribution} {self.version}"

    def blocked_by(self, blocked: Sequence[str]) -> str:
        """Return the name, out of those to be left out, that leaves this one out; "" when none does."""
        return next((name for name in blocked if name in (self.name, self.distribution)), "")


def offered() -> dict[str, tuple[Verb, ...]]:
    """Return the installed distributions' verbs by name, ordered by it."""
    verbs = [Verb(one.point.name, one.distribution, one.version, one.point.load) for one in named(GROUP)]
    names = sorted({verb.name for verb in verbs})
    return {name: tuple(verb for verb in verbs if verb.name == name) for name in names}


class Verbs(TyperGroup):
    """The command's own verbs in the order in which a newcomer needs them, then those of other distributions."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names; nothing is imported."""
        added = [name for name, verbs in offered().items() if name not in self.commands and _left(verbs, _blocked(ctx))]
        return [*self.commands, *added]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb: zoo's own, or one that stands for another distribution's in a list. None: there is none."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        verbs = _left(offered().get(cmd_name, ()), _blocked(ctx))
        owners = " and ".join(verb.owner for verb in verbs)
        return TyperCommand(cmd_name, help=f"From {owners}.", rich_markup_mode=None) if verbs else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb that `args` begin with, imported. PluginError: several offer it, or it cannot be imported."""
        name = args[0]
        if name in self.commands:
            return super().resolve_command(ctx, args)
        verbs = offered().get(name, ())
        left = _left(verbs, _blocked(ctx))
        if not left:
            self._refuse(ctx, name, verbs)
            return super().resolve_command(ctx, args)
        return name, _imported(_only(left)), args[1:]

    def _refuse(self, ctx: Any, name: str, verbs: Sequence[Verb]) -> None:
        """Say more than that there is no such verb, where more is known."""
        if verbs:
            out = verbs[0].blocked_by(_blocked(ctx))
            raise PluginError(f"the verb {name!r} of {verbs[0].owner} is left out", hint=f"leave away -p no:{out}")
        if name in TO_BE_HAD and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}. It is a plugin's: pip install {TO_BE_HAD[name]}")


def _blocked(ctx: Any) -> tuple[str, ...]:
    """Return the names that `-p no:NAME` leaves out. A verb is looked for before the options have become a `State`."""
    return State.of(ctx.params.get("plugin") or ()).blocked


def _left(verbs: Sequence[Verb], blocked: Sequence[str]) -> tuple[Verb, ...]:
    return tuple(verb for verb in verbs if not verb.blocked_by(blocked))


def _only(verbs: Sequence[Verb]) -> Verb:
    if len(verbs) > 1:
        owners = " and ".join(verb.owner for verb in verbs)
        ways = " or ".join(f"`-p no:{verb.distribution}`" for verb in verbs)
        raise PluginError(f"the verb {verbs[0].name!r} is offered by {owners}", hint=f"leave one out with {ways}")
    return verbs[0]


def _imported(verb: Verb) -> Any:
    try:
        command = _command(verb.name, verb.load())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(
            f"the verb {verb.name!r} cannot be imported: {type(error).__name__}: {error}",
            where=verb.owner,
            hint=f"pip install --force-reinstall {verb.distribution}, or pip uninstall {verb.distribution}",
        ) from error
    return command


def _command(name: str, offer: Any) -> Any:
    """Return the verb for a function or a `typer.Typer`. TypeError: it is neither. typer may refuse it too."""
    if isinstance(offer, typer.Typer):
        command = get_command(offer)
        command.name = name
        return command
    if not callable(offer):
        raise TypeError(f"a verb is a function or a typer.Typer, not {type(offer).__name__}")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name)(offer)
    return get_command(app)
