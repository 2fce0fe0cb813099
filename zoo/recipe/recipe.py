"""A resolved recipe: every part bound, every option typed, every default filled in."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import tomli_w

from zoo.recipe import schema
from zoo.registry import kinds
from zoo.registry.owner import Owner
from zoo.registry.parts import Direction, HeadPart, Options, Part

CommonT = TypeVar("CommonT", bound=schema.Table)
"""The class of a kind's common keys."""


@dataclass(frozen=True)
class Chosen(Generic[CommonT]):
    """One part that a recipe chose, with its own options and its kind's common keys."""

    part: Part
    owner: Owner
    options: Options
    common: CommonT

    def build(self, *args: Any) -> Any:
        """Build the part: its builder gets its options, then what its kind hands over."""
        return self.part.builder()(self.options, *args)

    def table(self) -> dict[str, Any]:
        """Return the part's recipe table with every default."""
        return {"use": self.part.name, **_plain(self.common), **_plain(self.options)}


@dataclass(frozen=True)
class Recipe:
    """What a run does. Immutable; `to_toml` writes it so that it reads back equal."""

    run: schema.RunTable
    backbone: Chosen[schema.NoKeys]
    weights: Chosen[schema.WeightsTable]
    heads: tuple[Chosen[schema.HeadTable], ...]
    data: Chosen[schema.DataTable]
    freeze: Chosen[schema.FreezeTable]
    optim: schema.OptimTable
    schedule: schema.Schedule
    device: Chosen[schema.DeviceTable]
    checkpoint: schema.CheckpointTable
    exports: tuple[Chosen[schema.ExportTable], ...]
    callbacks: tuple[Chosen[schema.NoKeys], ...]
    plugins: schema.PluginsTable
    path: Path | None = None

    def chosen(self) -> tuple[Chosen[Any], ...]:
        """Return every part of the recipe, in the order of the kinds."""
        single: tuple[Chosen[Any], ...] = (self.backbone, self.weights, self.data, self.freeze, self.device)
        return (*single, *self.heads, *self.exports, *self.callbacks)

    def directions(self) -> dict[str, Direction]:
        """Return {metric name: the better direction} of everything that is validated."""
        found: dict[str, Direction] = {"val/loss": "min"}
        for head in self.heads:
            prefix = "val" if len(self.heads) == 1 else f"val/{head.common.name}"
            metrics = head.part.metrics if isinstance(head.part, HeadPart) else {}
            found |= {f"{prefix}/{name}": direction for name, direction in metrics.items()}
        return found

    def with_device(self, **values: Any) -> "Recipe":
        """Return the recipe with keys of `[device]` set, such as the measured precision."""
        return replace(self, device=replace(self.device, common=self.device.common.model_copy(update=values)))

    def to_table(self) -> dict[str, Any]:
        """Return the recipe as a plain table with every default, in the order of the file."""
        tables: dict[str, Any] = {
            "format": schema.FORMAT,
            "run": _plain(self.run),
            kinds.BACKBONE.name: self.backbone.table(),
            kinds.WEIGHTS.name: self.weights.table(),
            kinds.HEAD.name: _one_or_many(self.heads),
            kinds.DATA.name: self.data.table(),
            kinds.FREEZE.name: self.freeze.table(),
            "optim": _plain(self.optim),
            "schedule": _plain(self.schedule),
            kinds.DEVICE.name: self.device.table(),
            "checkpoint": _plain(self.checkpoint),
            "plugins": _plain(self.plugins),
            kinds.EXPORT.name: [export.table() for export in self.exports],
            kinds.CALLBACK.name: [callback.table() for callback in self.callbacks],
        }
        return tables

    def to_toml(self) -> str:
        """Return the recipe as TOML."""
        return tomli_w.dumps(self.to_table())


def _plain(model: Any) -> dict[str, Any]:
    """Return a model as TOML can hold it: paths as strings, and no key for what is None."""
    values: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
    return values


def _one_or_many(heads: tuple[Chosen[schema.HeadTable], ...]) -> Any:
    tables = [head.table() for head in heads]
    return tables[0] if len(tables) == 1 else tables
