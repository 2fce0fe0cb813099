"""zoo: fine-tune a model from a TOML recipe, so that it cannot silently go wrong and wastes no work.

    import zoo
    result = zoo.finetune(zoo.load_recipe("recipes/resnet50_cls.toml"))

Names are imported when they are first used: `import zoo` itself costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.bundle import Outcome, Prediction, Predictor
    from zoo.errors import ZooError
    from zoo.export.decoded import Decoded
    from zoo.export.fold import fold_batchnorm
    from zoo.export.native import build_network
    from zoo.meta import on_meta
    from zoo.recipe import Recipe, load_recipe
    from zoo.registry import (
        BackbonePart,
        CallbackPart,
        DataPart,
        DevicePart,
        ExportPart,
        FreezePart,
        HeadPart,
        NoOptions,
        Options,
        WeightsPart,
        hookimpl,
        load_registry,
    )
    from zoo.registry.contracts import (
        Adapter,
        Backbone,
        DataSource,
        Depths,
        Described,
        DeviceSettings,
        Exportable,
        Exporter,
        FeatureSpec,
        FreezePolicy,
        Head,
        InputSpec,
        Layout,
        Native,
        Rates,
        Split,
        Strategy,
        TargetSpec,
        WeightsFile,
        WeightsRequest,
    )
    from zoo.registry.events import (
        ArtefactWritten,
        CheckpointSaved,
        EpochStarted,
        Evaluated,
        RunEnded,
        RunStarted,
        StepEnded,
    )
    from zoo.run import Result, finetune
    from zoo.run.bundles import load, verify

__version__ = "0.1.0"

_HOMES = {
    "zoo.bundle": ("Outcome", "Prediction", "Predictor"),
    "zoo.errors": ("ZooError",),
    "zoo.export.decoded": ("Decoded",),
    "zoo.export.fold": ("fold_batchnorm",),
    "zoo.export.native": ("build_network",),
    "zoo.meta": ("on_meta",),
    "zoo.recipe": ("Recipe", "load_recipe"),
    "zoo.registry": (
        *("BackbonePart", "CallbackPart", "DataPart", "DevicePart", "ExportPart", "FreezePart", "HeadPart"),
        *("WeightsPart", "NoOptions", "Options", "hookimpl", "load_registry"),
    ),
    "zoo.registry.contracts": (
        *("Adapter", "Backbone", "DataSource", "Depths", "Described", "DeviceSettings", "Exportable", "Exporter"),
        *("FeatureSpec", "FreezePolicy", "Head", "InputSpec", "Layout", "Native", "Rates", "Split", "Strategy"),
        *("TargetSpec", "WeightsFile", "WeightsRequest"),
    ),
    "zoo.registry.events": (
        *("ArtefactWritten", "CheckpointSaved", "EpochStarted", "Evaluated", "RunEnded", "RunStarted", "StepEnded"),
    ),
    "zoo.run": ("Result", "finetune"),
    "zoo.run.bundles": ("load", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Adapter",
    "ArtefactWritten",
    "Backbone",
    "BackbonePart",
    "CallbackPart",
    "CheckpointSaved",
    "DataPart",
    "DataSource",
    "Decoded",
    "Depths",
    "Described",
    "DevicePart",
    "DeviceSettings",
    "EpochStarted",
    "Evaluated",
    "ExportPart",
    "Exportable",
    "Exporter",
    "FeatureSpec",
    "FreezePart",
    "FreezePolicy",
    "Head",
    "HeadPart",
    "InputSpec",
    "Layout",
    "Native",
    "NoOptions",
    "Options",
    "Outcome",
    "Prediction",
    "Predictor",
    "Rates",
    "Recipe",
    "Result",
    "RunEnded",
    "RunStarted",
    "Split",
    "StepEnded",
    "Strategy",
    "TargetSpec",
    "WeightsFile",
    "WeightsPart",
    "WeightsRequest",
    "ZooError",
    "__version__",
    "build_network",
    "finetune",
    "fold_batchnorm",
    "hookimpl",
    "load",
    "load_recipe",
    "load_registry",
    "on_meta",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
