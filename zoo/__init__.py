"""zoo: fine-tune a model from a TOML recipe, so that it cannot silently go wrong and wastes no work.

    import zoo
    result = zoo.finetune(zoo.load_recipe("recipes/resnet50_cls.toml"))

Names are imported when they are first used: `import zoo` itself costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.backbones.wrapping import wrap_classifier
    from zoo.bundle import Outcome, Prediction, Predictor
    from zoo.data.images import open_image
    from zoo.data.split import split_in_two
    from zoo.devices.single import Single
    from zoo.errors import ZooError
    from zoo.export.decoded import Decoded
    from zoo.export.fold import fold_batchnorm
    from zoo.export.native import build_network
    from zoo.files import write_file
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
    from zoo.registry.api import API
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
        Mistake,
        MistakesFound,
        RunEnded,
        RunStarted,
        StepEnded,
    )
    from zoo.run import Result, finetune
    from zoo.run.bundles import load, verify
    from zoo.weights.places import cache_folder

__version__ = "0.1.0"

_HOMES = {
    "zoo.backbones.wrapping": ("wrap_classifier",),
    "zoo.bundle": ("Outcome", "Prediction", "Predictor"),
    "zoo.data.images": ("open_image",),
    "zoo.data.split": ("split_in_two",),
    "zoo.devices.single": ("Single",),
    "zoo.errors": ("ZooError",),
    "zoo.export.decoded": ("Decoded",),
    "zoo.export.fold": ("fold_batchnorm",),
    "zoo.export.native": ("build_network",),
    "zoo.files": ("write_file",),
    "zoo.meta": ("on_meta",),
    "zoo.recipe": ("Recipe", "load_recipe"),
    "zoo.registry": (
        *("BackbonePart", "CallbackPart", "DataPart", "DevicePart", "ExportPart", "FreezePart", "HeadPart"),
        *("WeightsPart", "NoOptions", "Options", "hookimpl", "load_registry"),
    ),
    "zoo.registry.api": ("API",),
    "zoo.registry.contracts": (
        *("Adapter", "Backbone", "DataSource", "Depths", "Described", "DeviceSettings", "Exportable", "Exporter"),
        *("FeatureSpec", "FreezePolicy", "Head", "InputSpec", "Layout", "Native", "Rates", "Split", "Strategy"),
        *("TargetSpec", "WeightsFile", "WeightsRequest"),
    ),
    "zoo.registry.events": (
        *("ArtefactWritten", "CheckpointSaved", "EpochStarted", "Evaluated", "Mistake", "MistakesFound", "RunEnded"),
        *("RunStarted", "StepEnded"),
    ),
    "zoo.run": ("Result", "finetune"),
    "zoo.run.bundles": ("load", "verify"),
    "zoo.weights.places": ("cache_folder",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "API",
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
    "Mistake",
    "MistakesFound",
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
    "Single",
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
    "cache_folder",
    "finetune",
    "fold_batchnorm",
    "hookimpl",
    "load",
    "load_recipe",
    "load_registry",
    "on_meta",
    "open_image",
    "split_in_two",
    "verify",
    "wrap_classifier",
    "write_file",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
