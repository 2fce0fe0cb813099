"""Plain weights under native names: model.safetensors and model.pth."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from zoo.export.native import TOLERANCES, bring_home, check_native, loaded, native_code, serialise
from zoo.registry.builtin.export import PthOptions, SafetensorsOptions
from zoo.registry.contracts import Described, Exportable, Native


def build_safetensors(options: SafetensorsOptions) -> "Safetensors":
    """Return the exporter."""
    return Safetensors(options.dtype)


def build_pth(options: PthOptions) -> "Pth":
    """Return the exporter."""
    return Pth(options.dtype)


class _State:
    """What both have in common: the library's own model loads the file with strict=True."""

    max_drop: float | None = None
    takes: Literal["normalised", "decoded"] = "normalised"

    def __init__(self, dtype: str, stem: str, suffix: str) -> None:
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._file = f"{stem}{suffix}" if dtype == "float32" else f"{stem}.{dtype}{suffix}"
        self.tolerance = TOLERANCES[dtype]

    def runtime(self, native: Native) -> str:
        """The architecture's own library."""
        return native.library

    def check(self, model: Exportable) -> None:
        """Raise ZooError: see `check_native`."""
        check_native(model)


class Safetensors(_State):
    """Weights that `timm.create_model` or `torchvision.models` load with strict=True, zoo not installed."""

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype, "model", ".safetensors")

    def write(self, model: Exportable, folder: Path) -> tuple[Path, ...]:
        """Write the weights. ZooError: see `check`."""
        self.check(model)
        path = folder / self._file
        path.write_bytes(serialise(model.state, dtype=self._dtype))
        return (path,)

    def read(self, model: Described, folder: Path) -> Callable[[Tensor], Tensor]:
        """Return the library's own model with the file's weights, loaded with strict=True."""
        return loaded(model, load_file(folder / self._file))

    def code(self, model: Described) -> str:
        """Return the library's call, and the loading."""
        imports = "from safetensors.torch import load_file"
        return native_code(model, imports=imports, load=f'load_file("{self._file}")')


class Pth(_State):
    """The same as a zip of torch's own, for what knows nothing else."""

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype, "model", ".pth")

    def write(self, model: Exportable, folder: Path) -> tuple[Path, ...]:
        """Write the weights. ZooError: see `check`."""
        self.check(model)
        path, state = folder / self._file, bring_home(model.state, self._dtype)
        torch.save({name: state[name] for name in sorted(state)}, path)
        return (path,)

    def read(self, model: Described, folder: Path) -> Callable[[Tensor], Tensor]:
        """Return the library's own model with the file's weights, loaded with strict=True."""
        return loaded(model, torch.load(folder / self._file, map_location="cpu", weights_only=True))

    def code(self, model: Described) -> str:
        """Return the library's call, and the loading."""
        return native_code(model, imports="import torch", load=f'torch.load("{self._file}", weights_only=True)')
