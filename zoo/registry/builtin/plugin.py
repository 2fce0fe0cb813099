"""The built-in plugin: every hook answered from the declarations beside this file."""

from collections.abc import Iterable

from zoo.registry.builtin import backbones, callbacks, data, devices, export, freeze, heads, weights
from zoo.registry.hookspecs import hookimpl
from zoo.registry.parts import (
    BackbonePart,
    CallbackPart,
    DataPart,
    DevicePart,
    ExportPart,
    FreezePart,
    HeadPart,
    WeightsPart,
)


@hookimpl
def zoo_backbones() -> Iterable[BackbonePart]:
    """Offer timm's and torchvision's architectures."""
    return backbones.PARTS


@hookimpl
def zoo_heads() -> Iterable[HeadPart]:
    """Offer the linear classifier."""
    return heads.PARTS


@hookimpl
def zoo_weights_sources() -> Iterable[WeightsPart]:
    """Offer cards, files, installed packages, the hub, and no weights at all."""
    return weights.PARTS


@hookimpl
def zoo_data_sources() -> Iterable[DataPart]:
    """Offer image folders, the bundled digits, idx files and torchvision's data sets."""
    return data.PARTS


@hookimpl
def zoo_freeze_policies() -> Iterable[FreezePart]:
    """Offer the built-in freeze policies."""
    return freeze.PARTS


@hookimpl
def zoo_device_strategies() -> Iterable[DevicePart]:
    """Offer the single device."""
    return devices.PARTS


@hookimpl
def zoo_exporters() -> Iterable[ExportPart]:
    """Offer safetensors under native names."""
    return export.PARTS


@hookimpl
def zoo_callbacks() -> Iterable[CallbackPart]:
    """Offer progress, metrics.jsonl and early stopping."""
    return callbacks.PARTS
