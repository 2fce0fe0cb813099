"""Plugins and the parts they offer. Light: importing this never imports torch."""

from zoo.registry.discovery import Candidate, OwnedPart, Plugin
from zoo.registry.hookspecs import hookimpl
from zoo.registry.owner import Owner
from zoo.registry.parts import (
    BackbonePart,
    CallbackPart,
    DataPart,
    DevicePart,
    ExportPart,
    FreezePart,
    HeadPart,
    NoOptions,
    Options,
    Part,
    WeightsPart,
)
from zoo.registry.registry import Registry, load_registry

__all__ = [
    "BackbonePart",
    "CallbackPart",
    "Candidate",
    "DataPart",
    "DevicePart",
    "ExportPart",
    "FreezePart",
    "HeadPart",
    "NoOptions",
    "Options",
    "OwnedPart",
    "Owner",
    "Part",
    "Plugin",
    "Registry",
    "WeightsPart",
    "hookimpl",
    "load_registry",
]
