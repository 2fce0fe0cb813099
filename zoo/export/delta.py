"""delta.safetensors: what differs from the weights that training started from, and the digest of the whole."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor

from zoo.errors import WeightsError, ZooError
from zoo.export.native import TOLERANCES, check_native, loaded, serialise
from zoo.registry.builtin.export import DeltaOptions
from zoo.registry.contracts import Described, Exportable, Native

FILE = "delta.safetensors"
WHOLE = "zoo.sha256"
"""The key in the file's metadata for the SHA-256 of model.safetensors, put together again."""


def build(options: DeltaOptions) -> "Delta":
    """Return the exporter."""
    return Delta()


class Delta:
    """The tensors that training changed, or that the base weights do not have."""

    tolerance = TOLERANCES["float32"]
    max_drop: float | None = None
    takes: Literal["normalised", "decoded"] = "normalised"

    def runtime(self, native: Native) -> str:
        """The architecture's own library."""
        return native.library

    def check(self, model: Exportable) -> None:
        """Raise ZooError for a model that started from nothing; and see `check_native`."""
        if model.base is None:
            what = "a delta is what differs from the base weights, and this run started from none"
            raise ZooError(what, where="[[export]] use = 'delta'", hint='export "safetensors"')
        check_native(model)

    def write(self, model: Exportable, folder: Path) -> tuple[Path, ...]:
        """Write the tensors whose bits are not the base's. ZooError: see `check`; WeightsError: the base is gone."""
        self.check(model)
        base = _base(model)
        changed = {name: tensor for name, tensor in model.state.items() if not _same(base.get(name), tensor)}
        path = folder / FILE
        path.write_bytes(serialise(changed, {WHOLE: hashlib.sha256(serialise(model.state)).hexdigest()}))
        return (path,)

    def read(self, model: Described, folder: Path) -> Callable[[Tensor], Tensor]:
        """Return the library's own model with base and delta. WeightsError: they are not the ones that were parted."""
        return loaded(model, put_together(model, folder / FILE))

    def code(self, model: Described) -> str:
        """Return nothing: it takes zoo to put it together."""
        return ""


def put_together(model: Described, path: Path) -> dict[str, Tensor]:
    """Return base and delta as one state dict under native names.

    WeightsError: the base weights cannot be had, or the whole is not, byte for byte, what was exported.
    """
    with safe_open(path, framework="pt") as file:
        wanted = (file.metadata() or {}).get(WHOLE)
        changed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    if wanted is None:
        raise WeightsError("the file is no delta: it does not say what it makes", where=str(path))
    whole = {**_base(model), **changed}
    if hashlib.sha256(serialise(whole)).hexdigest() != wanted:
        what = "base weights and delta do not make the weights that were exported: the base is another"
        raise WeightsError(what, where=str(path), hint="name the file that training started from with --base")
    return whole


def _base(model: Described) -> Mapping[str, Tensor]:
    if model.base is None:
        raise WeightsError("there are no base weights to put the delta on", hint="name their file with --base")
    return model.base()


def _same(base: Tensor | None, tensor: Tensor) -> bool:
    """Whether two tensors are equal to the last bit, NaN included."""
    if base is None or base.shape != tensor.shape or base.dtype != tensor.dtype:
        return False
    first, second = (x.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for x in (base, tensor))
    return torch.equal(first, second)
