"""The conformance kit: what every part of a kind must hold to, for authors of plugins.

    from zoo.testing import check_backbone
    check_backbone(part, {"arch": "tiny"})

Each `check_…` runs every check of its kind on one part, built with `options` (a table as in a recipe) or with the
part's own `examples`. It raises ConformanceError, an AssertionError, which says what was expected, what came, and why
it matters. With `slow=False` checks that start further processes are left out. A whole plugin that is installed is
tried by `zoo plugins test NAME`, or in pytest by the fixture `zoo_case` (see `zoo.pytest_plugin`).
"""

from collections.abc import Mapping
from typing import Any

from zoo.registry import kinds
from zoo.registry.parts import Options, Part
from zoo.registry.registry import Registry, load_registry
from zoo.testing.cases import AnyCase, Case, all_cases, find_plugins, hold_to
from zoo.testing.kit import Check, ConformanceError, NotTriedError

__all__ = [
    "Case",
    "Check",
    "ConformanceError",
    "NotTriedError",
    "cases",
    "check_backbone",
    "check_callback",
    "check_data",
    "check_device",
    "check_export",
    "check_freeze",
    "check_head",
    "check_weights",
]

Given = Options | Mapping[str, Any] | None


def cases(plugin: str, registry: Registry | None = None) -> tuple[AnyCase, ...]:
    """Return every check of an installed plugin and of each of its parts, by its entry-point or distribution name.

    Where several have that name, or a distribution has several, those of all. PluginError: there is no such plugin.
    """
    return tuple(case for found in find_plugins(registry or load_registry(), plugin) for case in all_cases(found))


def check_backbone(part: Part, options: Given = None, *, slow: bool = True) -> None:
    """Hold a backbone to its promises: sizes, stages, gradients, native names, seeds, export, two processes."""
    hold_to(kinds.BACKBONE, part, options, slow)


def check_head(part: Part, options: Given = None, *, slow: bool = True) -> None:
    """Hold a head to its promises: logits, an unreduced loss, gradients, metrics that are right, native names."""
    hold_to(kinds.HEAD, part, options, slow)


def check_weights(part: Part, options: Given = None, *, slow: bool = True) -> None:
    """Hold a weights source to its promises: a file that is there, readable, named rightly and the same again."""
    hold_to(kinds.WEIGHTS, part, options, slow)


def check_data(part: Part, options: Given = None, *, slow: bool = True) -> None:
    """Hold a data source to its promises: stable names and order, no image in both splits, picklable."""
    hold_to(kinds.DATA, part, options, slow)


def check_freeze(part: Part, options: Given = None, *, slow: bool = True) -> None:
    """Hold a freeze policy to its promises: a pure function that covers every parameter, and holds."""
    hold_to(kinds.FREEZE, part, options, slow)


def check_device(part: Part, options: Given = None, *, slow: bool = True) -> None:
    """Hold a device strategy to its promises: the weights that a single device comes to."""
    hold_to(kinds.DEVICE, part, options, slow)


def check_export(part: Part, options: Given = None, *, slow: bool = True) -> None:
    """Hold an exporter to its promises: the model's logits, read back without the model; the same bytes again."""
    hold_to(kinds.EXPORT, part, options, slow)


def check_callback(part: Part, options: Given = None, *, slow: bool = True) -> None:
    """Hold a callback to its promises: a run that is the same with it and without."""
    hold_to(kinds.CALLBACK, part, options, slow)
