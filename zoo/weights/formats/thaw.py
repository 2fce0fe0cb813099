"""Make tensors and mappings of what an inert reading gave."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.weights.formats.inert import Array, Inert, Pending, Stored

DEPTH = 64  # containers in containers; one may hold itself
MODULES = 20_000  # in a module; one may hold itself, or another twice
SCRIPTED = "__torch__."
_KINDS = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
}
KINDS = {
    **{f"torch.{name}Storage": kind for name, kind in _KINDS.items()},
    **{str(kind): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)},
}
"""Number formats by the names that files give them."""


def item_size(stored: Stored) -> int:
    """Return the bytes of one of the storage's numbers; a storage without a type counts bytes. LookupError: unknown."""
    return 1 if stored.kind == "torch.storage.UntypedStorage" else KINDS[stored.kind].itemsize


def thaw(content: Any, storages: Mapping[str, bytearray]) -> Any:
    """Return `content` with its tensors made, modules as their state dicts and mappings as dicts; the rest stays inert.

    `storages` are bytes by key. ValueError: a tensor reaches beyond its storage, or there is no end to the modules.
    LookupError: no such storage.
    """
    # What is met twice is made once: a few mappings that hold each other twice would be endlessly many.
    return _thaw(content, storages, {}, 0)


def _thaw(content: Any, storages: Mapping[str, bytearray], made: dict[int, Any], depth: int) -> Any:
    if id(content) in made:
        return made[id(content)]
    if isinstance(content, Pending):
        return made.setdefault(id(content), _tensor(content, storages))
    if isinstance(content, Array):
        return made.setdefault(id(content), _array(content))
    found = _mapping(content)
    if found is None or depth == DEPTH:
        return content
    thawed = made[id(content)] = dict[Any, Any]()
    thawed.update((key, _thaw(value, storages, made, depth + 1)) for key, value in tuple(found.items()))
    return thawed


def _mapping(content: Any) -> Mapping[Any, Any] | None:
    if isinstance(content, dict):
        return content
    if not isinstance(content, Inert):
        return None
    return _members(content) or content.contents or None


def _members(module: Inert) -> dict[str, Any]:
    """Return a saved module's parameters and buffers by their paths, empty when it is none."""
    walk = _scripted if module.asked.startswith(SCRIPTED) else _saved
    return dict(walk(module, "", iter(range(MODULES))))


def _saved(module: Any, path: str, left: Iterator[int]) -> Iterator[tuple[str, Any]]:
    """Give what `nn.Module.state_dict` would: parameters and lasting buffers, then those of the modules inside."""
    state = module.state if isinstance(module, Inert) else None
    if not isinstance(state, dict) or not _holds(state, "_parameters", "_buffers", "_modules"):
        return
    _count(path, left)
    passing = state.get("_non_persistent_buffers_set", ())
    passing = passing if isinstance(passing, (list, tuple, set)) else ()
    for name, value in (*state["_parameters"].items(), *state["_buffers"].items()):
        if value is not None and name not in passing:
            yield f"{path}{name}", value
    for name, child in state["_modules"].items():
        yield from _saved(child, f"{path}{name}.", left)


def _count(path: str, left: Iterator[int]) -> None:
    if next(left, None) is None or path.count(".") > DEPTH:
        raise ValueError("there is no end to its modules")


def _holds(state: dict[Any, Any], *names: str) -> bool:
    return all(isinstance(state.get(name), dict) for name in names)


def _scripted(module: Any, path: str, left: Iterator[int]) -> Iterator[tuple[str, Any]]:
    """Give every tensor that is an attribute of a scripted module or of one inside; its methods are not looked at."""
    state = module.state if isinstance(module, Inert) and module.asked.startswith(SCRIPTED) else None
    if not isinstance(state, dict):
        return
    _count(path, left)
    for name, value in state.items():
        if isinstance(value, Pending):
            yield f"{path}{name}", value
        else:
            yield from _scripted(value, f"{path}{name}.", left)


def _tensor(pending: Pending, storages: Mapping[str, bytearray]) -> Tensor:
    size, stride, offset = tuple(pending.size), tuple(pending.stride), pending.offset
    kind, raw = KINDS[pending.kind], storages[pending.storage.key]
    numbers = (*size, *stride, offset)
    if len(size) != len(stride) or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a tensor has no proper shape")
    if 0 in size:
        return torch.empty(size, dtype=kind)
    reach = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if reach >= len(raw) // kind.itemsize:
        raise ValueError("a tensor reaches beyond its storage")
    return torch.frombuffer(raw, dtype=kind, count=len(raw) // kind.itemsize).as_strided(size, stride, offset)


def _array(array: Array) -> Any:
    """Return a numpy array of plain numbers as a tensor, anything else as it is."""
    _, shape, described, fortran, raw = array.state if _is_state(array.state) else (None,) * 5
    code = described.args[0] if isinstance(described, Inert) and described.args else None
    order = described.state[1] if isinstance(described, Inert) and isinstance(described.state, tuple) else "="
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # of Python 2
    if not isinstance(raw, bytes) or not isinstance(code, str) or code[:1] not in "fiub":
        return array
    kind = np.dtype(code).newbyteorder(">" if order == ">" else "<")
    values = np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")
    return as_tensor(values)


def _is_state(state: Any) -> bool:
    return isinstance(state, tuple) and len(state) == 5


def as_tensor(values: "np.ndarray[Any, Any]") -> Tensor:
    """Return a copy of a numpy array as a tensor. TypeError: torch has no such numbers."""
    native = values.astype(values.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(native)
