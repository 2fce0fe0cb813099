"""What is wrong with a plugin, in words: the reason, the line of its own where it came up, and how to mend it."""

import traceback
from dataclasses import dataclass

import pluggy

from zoo.registry.owner import Owner

MAIN_THREAD = ("signal only works in main thread", "There is no current event loop")
"""How Python says that a thread is not the main one."""


class NotAPluginError(Exception):
    """A plugin's object, hook or result is not what the hookspec says."""


@dataclass(frozen=True)
class Fault:
    """Why a plugin gives no parts. `where` is FILE:LINE, of the plugin's own code where that had a part in it."""

    reason: str
    where: str
    mend: str


def describe(error: BaseException, module: str, owner: Owner) -> Fault:
    """Return what an exception at the import or in a hook of a plugin means. `module` is the plugin's own."""
    root = module.partition(".")[0]
    if isinstance(error, NotAPluginError | pluggy.PluginValidationError):
        return Fault(_line(str(error)), _where(error.__cause__ or error, root), owner.report())
    return Fault(_line(f"{type(error).__name__}: {error}"), _where(error, root), _mend(error, root, owner))


def _line(text: str) -> str:
    return "; ".join(text.splitlines())


def _where(error: BaseException, root: str) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.walk_tb(error.__traceback__)
    own = [(frame, line) for frame, line in frames if _root_of(frame.f_globals.get("__name__")) == root]
    return f"{own[-1][0].f_code.co_filename}:{own[-1][1]}" if own else ""


def _root_of(module: object) -> str:
    return str(module).partition(".")[0]


def _mend(error: BaseException, root: str, owner: Owner) -> str:
    if str(error).startswith(MAIN_THREAD):
        why = "zoo imports plugins in a thread, so it must do this when a part is built, not at import"
        return f"{owner.report()}: {why}"
    if not isinstance(error, ImportError):
        return owner.report()
    missing, distribution = _root_of(error.name or ""), owner.distribution
    if isinstance(error, ModuleNotFoundError) and missing not in ("", "zoo", root):
        return f"pip install {missing}, or whichever distribution has the module {missing!r}"
    if owner.file is not None:
        return owner.report()
    if missing == "zoo":
        return f"pip install -U {distribution}; if that is the newest, pip install -U zoo-finetune"
    if isinstance(error, ModuleNotFoundError):
        return f"pip install --force-reinstall {distribution}"
    return f"pip install -U {distribution}, or downgrade {missing or 'what it imports from'}"
