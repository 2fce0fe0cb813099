"""Verbs that other distributions add to the command, by the entry-point group `zoo.commands`.

A distribution names a function with typer's annotations, the `typer.Context` its first parameter, or a `typer.Typer`:

    [project.entry-points."zoo.commands"]
    serve = "zoo_serve.command:serve"

It is imported when its verb is called, and at no other time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from zoo.cli.state import PLUGIN_HELP, State
from zoo.errors import PluginError
from zoo.installed import ONLY, is_among, only, scan

GROUP = "zoo.commands"
PARTS = "zoo"
"""The group in which distributions name plugins."""
FIRST = ("finetune", "check", "plan", "list", "devices", "plugins")
"""The verbs that stand first: typer puts groups last."""
TO_BE_HAD = {"serve": "zoo-serve"}
"""Verbs of plugins that are zoo's own, and the distributions that have them."""


@dataclass(frozen=True)
class Verb:
    """A verb that is not imported yet: its name, who offers it, and how to get its function."""

    name: str
    distribution: str
    version: str
    load: Callable[[], Any]
    plugins: tuple[str, ...] = ()
    """The plugins that its distribution has beside it, found where `ZOO_PLUGINS` may name them."""

    @property
    def owner(self) -> str:
        """The distribution with its version."""
        return f"{self.distribution} {self.version}"

    def blocked_by(self, blocked: Sequence[str]) -> str:
        """Return the option or setting that leaves this one out, out of those to be left out; "" when none does."""
        names = [name for name in blocked if is_among((name,), self.name, self.distribution)]
        if names:
            return f"-p no:{names[0]}"
        chosen = only()
        if chosen is None or any(is_among(chosen, name, self.distribution) for name in (self.name, *self.plugins)):
            return ""
        return f"{ONLY}={','.join(chosen)}"


def offered() -> dict[str, tuple[Verb, ...]]:
    """Return the installed distributions' verbs by name, ordered by it."""
    found = scan((GROUP,) if only() is None else (GROUP, PARTS))
    plugins = [(one.distribution, one.point.name) for one in found if one.point.group == PARTS]
    verbs = [
        Verb(one.point.name, one.distribution, one.version, one.point.load, _names(plugins, one.distribution))
        for one in found
        if one.point.group == GROUP
    ]
    names = sorted({verb.name for verb in verbs})
    return {name: tuple(verb for verb in verbs if verb.name == name) for name in names}


def _names(plugins: Sequence[tuple[str, str]], distribution: str) -> tuple[str, ...]:
    return tuple(name for owner, name in plugins if owner == distribution)


class Verbs(TyperGroup):
    """The command's own verbs in the order in which a newcomer needs them, then those of other distributions."""

    @cached_property
    def offered(self) -> dict[str, tuple[Verb, ...]]:
        """The verbs of other distributions, found when they are first asked for."""
        return offered()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names; nothing is imported."""
        added = [
            name for name, verbs in self.offered.items() if name not in self.commands and _left(verbs, _blocked(ctx))
        ]
        return [*sorted(self.commands, key=_place), *added]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb: zoo's own, or one that stands for another distribution's in a list. None: there is none."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            _take_plugins(own)
            return own
        verbs = _left(self.offered.get(cmd_name, ()), _blocked(ctx))
        owners = " and ".join(verb.owner for verb in verbs)
        return TyperCommand(cmd_name, help=f"From {owners}.", rich_markup_mode=None) if verbs else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb that `args` begin with, imported. PluginError: several offer it, or it cannot be imported."""
        name = args[0]
        if name in self.commands:
            return super().resolve_command(ctx, args)
        verbs = self.offered.get(name, ())
        left = _left(verbs, _blocked(ctx))
        if not left:
            self._refuse(ctx, name, verbs)
            return super().resolve_command(ctx, args)
        return name, _imported(_only(left)), args[1:]

    def _refuse(self, ctx: Any, name: str, verbs: Sequence[Verb]) -> None:
        """Say more than that there is no such verb, where more is known."""
        if verbs:
            out = verbs[0].blocked_by(_blocked(ctx))
            raise PluginError(f"the verb {name!r} of {verbs[0].owner} is left out", hint=f"leave away {out}")
        if name in TO_BE_HAD and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}. It is a plugin's: pip install {TO_BE_HAD[name]}")


def _place(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def _take_plugins(command: Any) -> None:
    """Let a verb of zoo's, and the verbs below it, take `-p` as well: it reads best at the end of a command."""
    for below in getattr(command, "commands", {}).values():
        _take_plugins(below)
    if not any("--plugin" in option.opts for option in command.params):
        command.params.append(_plugin_option())


def _plugin_option() -> Any:
    """Return `-p` as typer makes it of an annotation: its classes take other arguments in every version."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def _verb(
        more_plugins: Annotated[  # a name that no verb's own parameter has
            list[str] | None,
            typer.Option(
                *("-p", "--plugin"),
                metavar="no:NAME|FILE.py",
                help=PLUGIN_HELP,
                callback=_add_plugins,
                expose_value=False,
            ),
        ] = None,
    ) -> None: ...

    return next(option for option in get_command(app).params if "--plugin" in option.opts)


def _add_plugins(context: typer.Context, settings: list[str] | None) -> None:
    if settings:
        context.obj = context.obj.having(settings)


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
