"""Serve a model over HTTP: `zoo serve BUNDLE`, or `application` for a server of one's own."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo_serve.app import application
    from zoo_serve.service import Service
    from zoo_serve.settings import Settings

__all__ = ["Service", "Settings", "application"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'zoo_serve' has no attribute {name!r}")
    from importlib import import_module

    homes = {"application": "zoo_serve.app", "Service": "zoo_serve.service", "Settings": "zoo_serve.settings"}
    return getattr(import_module(homes[name]), name)
