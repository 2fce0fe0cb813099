"""The run's own plugin manager: it holds only the callbacks that the recipe names."""

from collections.abc import Mapping
from typing import Any

import pluggy

from zoo.errors import PluginError
from zoo.registry.hookspecs import PROJECT, RunEvents


def make_events(callbacks: Mapping[str, object]) -> Any:
    """Return the hook caller over `callbacks` by name. PluginError: one has a hookimpl that is no event of a run."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RunEvents)
    for name, callback in reversed(list(callbacks.items())):  # pluggy calls the last registered first
        try:
            manager.register(callback, name=name)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"callback {name!r} does not fit the events of a run: {error}") from error
    return manager.hook
