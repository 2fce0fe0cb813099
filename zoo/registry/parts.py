"""Part descriptors: what a plugin's hook returns. Cheap to make; nothing heavy is imported until a part is built."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from zoo.errors import PluginError
from zoo.registry import kinds

if TYPE_CHECKING:
    from zoo.registry.contracts import Adapter

Direction = Literal["max", "min"]


class Options(BaseModel):
    """Base of every part's options: a closed, frozen schema whose field names are public API."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class NoOptions(Options):
    """For parts that have nothing to set."""


@dataclass(frozen=True)
class Part:
    """What a plugin offers: a name for recipes, a builder by its import path, and the options it takes.

    `name` is what a recipe writes after `use =`: letters, digits, `-`, `_` and `.`, starting with a letter.
    `build` is `"package.module:function"`, imported when the part is first built.
    `options` is a pydantic model derived from `Options`; every key of the recipe's table is checked against it.
    `summary` is one line for `zoo list`. `variants` optionally names a function that returns the names of what the
    part can build (a backbone library's architectures); it may import heavy packages. `examples` optionally names a
    function `examples(folder: Path)` that returns tables of options to try the part with, the smallest first; files
    that they need it makes in `folder`. The conformance kit builds the part with them (`zoo.testing`).
    """

    kind: ClassVar[kinds.Kind]

    name: str
    build: str
    options: type[Options] = NoOptions
    summary: str = ""
    variants: str = ""
    examples: str = ""

    def __post_init__(self) -> None:
        if type(self) is Part:
            raise TypeError("Part is abstract: return BackbonePart, HeadPart, … from a hook")
        if not re.fullmatch(r"[A-Za-z][\w.-]*", self.name):
            raise ValueError(f"{self.name!r} is not a part name: letters, digits, '-', '_' and '.', a letter first")
        if not isinstance(self.options, type) or not issubclass(self.options, Options):
            raise TypeError(f"options of {self.name!r} must be a class derived from zoo.registry.Options")
        for path in filter(None, (self.build, self.variants, self.examples)):
            _check_path(path)

    def builder(self) -> Callable[..., Any]:
        """Return the function that builds this part, importing its module now."""
        return _import(self, self.build)

    def list_variants(self) -> list[str]:
        """Return the names of what this part can build, sorted; empty when it declares none."""
        return sorted(_import(self, self.variants)()) if self.variants else []

    def list_examples(self, folder: Path) -> list[Options]:
        """Return options to try the part with, the smallest first; what they read is made in `folder`.

        Without `examples` the defaults. pydantic.ValidationError: they are not options of the part.
        """
        tables = _import(self, self.examples)(folder) if self.examples else [{}]
        return [self.options.model_validate(table) for table in tables]


def _check_path(path: str) -> None:
    if not re.fullmatch(r"[\w.]+:\w+", path):
        raise ValueError(f"{path!r} is not an import path of the form 'package.module:function'")


def _import(part: Part, path: str) -> Callable[..., Any]:
    module, _, function = path.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"{part.kind.name} {part.name!r} cannot be built: {error}",
            where=path,
            hint="install what the plugin needs, or report this to its author",
        ) from error
    return found


@dataclass(frozen=True)
class BackbonePart(Part):
    """A backbone: `build(options, image_size) -> zoo.registry.contracts.Backbone`."""

    kind: ClassVar[kinds.Kind] = kinds.BACKBONE


@dataclass(frozen=True)
class HeadPart(Part):
    """A head: `build(options, features, target) -> Head`.

    `metrics` names what the head measures on validation data, and the better direction; `loss` (min) is always there.
    """

    kind: ClassVar[kinds.Kind] = kinds.HEAD
    metrics: Mapping[str, Direction] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightsPart(Part):
    """A weights source: `build(options, request) -> WeightsFile | None`."""

    kind: ClassVar[kinds.Kind] = kinds.WEIGHTS


@dataclass(frozen=True)
class DataPart(Part):
    """A data source: `build(options, seed) -> DataSource`."""

    kind: ClassVar[kinds.Kind] = kinds.DATA


@dataclass(frozen=True)
class FreezePart(Part):
    """A freeze policy: `build(options) -> FreezePolicy`.

    `adapter` optionally names a function `build_adapter(options) -> Adapter`, for a policy that trains parameters which
    it adds itself: they are attached when the weights are loaded, and merged before anything is exported.
    """

    kind: ClassVar[kinds.Kind] = kinds.FREEZE
    adapter: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapter:
            _check_path(self.adapter)

    def build_adapter(self, options: Options) -> "Adapter | None":
        """Return the policy's adapter, importing its module now; None when it has none."""
        return _import(self, self.adapter)(options) if self.adapter else None


@dataclass(frozen=True)
class DevicePart(Part):
    """A device strategy: `build(options, settings) -> Strategy`. `processes` says that it takes one for each device."""

    kind: ClassVar[kinds.Kind] = kinds.DEVICE
    processes: bool = False


@dataclass(frozen=True)
class ExportPart(Part):
    """An exporter: `build(options) -> Exporter`."""

    kind: ClassVar[kinds.Kind] = kinds.EXPORT


@dataclass(frozen=True)
class CallbackPart(Part):
    """A callback: `build(options, folder) -> object` whose `@zoo.hookimpl` methods observe the run."""

    kind: ClassVar[kinds.Kind] = kinds.CALLBACK
