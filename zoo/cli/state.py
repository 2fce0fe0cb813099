"""What the options before the verb say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.registry import Registry


@dataclass(frozen=True)
class State:
    """The plugins left out; the registry without them is made when a verb first asks."""

    blocked: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Sequence[str]) -> "State":
        """Return the state for `-p no:NAME` settings. ZooError: one is not of that form."""
        for setting in settings:
            if not setting.startswith("no:") or len(setting) == len("no:"):
                raise ZooError(f"-p {setting} is not understood", hint="-p no:NAME leaves out the plugin NAME")
        return cls(tuple(setting.removeprefix("no:") for setting in settings))

    def registry(self) -> "Registry":
        """Return the registry of what is installed, without the blocked plugins."""
        from zoo.registry import load_registry

        return load_registry(self.blocked)
