"""Freezing: a policy says which parameters train, a Plan what follows for every tensor, an audit that it was so."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.freeze.alone import apply, audited
    from zoo.freeze.layout import make_layout
    from zoo.freeze.lora import merge
    from zoo.freeze.plan import Phase, Plan, Rules, make_phases, phase_at
    from zoo.freeze.still import fix_batchnorm, follow, unfix_batchnorm

_HOMES = {
    "apply": "alone",
    "audited": "alone",
    "make_layout": "layout",
    "merge": "lora",
    **dict.fromkeys(("Phase", "Plan", "Rules", "make_phases", "phase_at"), "plan"),
    **dict.fromkeys(("fix_batchnorm", "follow", "unfix_batchnorm"), "still"),
}

__all__ = [
    "Phase",
    "Plan",
    "Rules",
    "apply",
    "audited",
    "fix_batchnorm",
    "follow",
    "make_layout",
    "make_phases",
    "merge",
    "phase_at",
    "unfix_batchnorm",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo.freeze' has no attribute {name!r}")
    return getattr(import_module(f"zoo.freeze.{_HOMES[name]}"), name)
