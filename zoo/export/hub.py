"""The layout of the Hugging Face hub that timm opens: config.json beside model.safetensors."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import timm
from torch import Tensor

from zoo.errors import ZooError
from zoo.export.native import TOLERANCES, check_native, serialise
from zoo.registry.builtin.export import HubOptions
from zoo.registry.contracts import Described, Exportable, Native


def build(options: HubOptions) -> "Hub":
    """Return the exporter."""
    return Hub()


class Hub:
    """A folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` opens, and the hub shows."""

    tolerance = TOLERANCES["float32"]
    max_drop: float | None = None
    takes: Literal["normalised", "decoded"] = "normalised"

    def runtime(self, native: Native) -> str:
        """Timm, always."""
        return "timm"

    def check(self, model: Exportable) -> None:
        """Raise ZooError for an architecture that is not timm's; and see `check_native`."""
        if model.native.library != "timm":
            what = f"timm opens its own architectures, and this is {model.native.identity}"
            raise ZooError(what, where="[[export]] use = 'hub'", hint='export "safetensors", which its library loads')
        check_native(model)

    def write(self, model: Exportable, folder: Path) -> tuple[Path, ...]:
        """Write weights and config. ZooError: see `check`."""
        self.check(model)
        weights, config = folder / "model.safetensors", folder / "config.json"
        weights.write_bytes(serialise(model.state))
        config.write_text(json.dumps(_config(model), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return config, weights

    def read(self, model: Described, folder: Path) -> Callable[[Tensor], Tensor]:
        """Return what timm makes of the folder."""
        return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()  # type: ignore[no-any-return]

    def code(self, model: Described) -> str:
        """Return timm's call."""
        return 'import timm\n\nnetwork = timm.create_model("local-dir:.", pretrained=True).eval()'


def _config(model: Described) -> dict[str, Any]:
    """Return config.json as timm's own uploads have it."""
    arguments = dict(model.native.arguments)
    return {
        "architecture": model.native.arch,
        "num_classes": len(model.classes),
        **({"model_args": arguments} if arguments else {}),
        "label_names": list(model.classes),
        "pretrained_cfg": {
            **{key: value for key, value in asdict(model.input).items() if key != "size"},
            "input_size": [3, *model.input.size],
            "crop_mode": "center",
            "num_classes": len(model.classes),
            "classifier": model.native.classifier,
        },
    }
