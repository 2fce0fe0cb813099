"""What the options before the verb say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.registry import Registry

PLUGIN_HELP = "no:NAME leaves a plugin out, by its name or its distribution's; FILE.py takes the parts of a file."


@dataclass(frozen=True)
class State:
    """The plugins left out, and files that are plugins; the registry is made when a verb first asks."""

    blocked: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Sequence[str]) -> "State":
        """Return the state for `-p no:NAME` and `-p FILE.py` settings. ZooError: one is of neither form."""
        blocked = [setting.removeprefix("no:") for setting in settings if setting.startswith("no:")]
        files = [setting for setting in settings if not setting.startswith("no:")]
        for setting in settings:
            if setting == "no:" or (setting in files and not setting.endswith(".py")):
                hint = "-p no:NAME leaves out the plugin NAME, -p FILE.py takes the parts of a file"
                raise ZooError(f"-p {setting} is not understood", hint=hint)
        return cls(tuple(blocked), tuple(files))

    def having(self, settings: Sequence[str]) -> "State":
        """Return the state with further settings. ZooError: see `of`."""
        more = State.of(settings)
        return State((*self.blocked, *more.blocked), (*self.files, *more.files))

    def registry(self) -> "Registry":
        """Return the registry of what is installed and of the files, without the blocked plugins."""
        from zoo.registry import load_registry

        return load_registry(self.blocked, files=self.files)
