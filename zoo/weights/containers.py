"""What a checkpoint file holds besides the state dict, and how to find the state dict in it: by looking."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import WeightsError

RAW = ("state_dict", "model", "model_state", "model_state_dict", "net", "network", "params", "module", "weights")
AVERAGED = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "ema_model", "net_ema", "params_ema")
MOST = 0.9  # share of a mapping's values that are tensors when it is the state dict and not a record around it
DEPTH = 6  # containers in containers; deeper is no checkpoint that anyone saves


def unwrap(content: Any, path: Path) -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
    """Return (containers passed, joined by dots; the tensors by key; the keys between them that hold no tensor).

    WeightsError: no state dict inside, several of them (averaged weights beside raw ones), sparse or quantised tensors.
    """
    passed: list[str] = []
    while not _is_state(content):
        if len(passed) == DEPTH or not isinstance(content, Mapping):
            raise _nothing(content, passed, path)
        name = _only(content, passed, path)
        content = content[name]
        passed.append(name)
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    _require_plain(tensors, path)
    return ".".join(passed), tensors, tuple(str(key) for key in content if key not in tensors)


def _is_state(content: Any) -> bool:
    if not isinstance(content, Mapping) or any(_is_container(content, key) for key in (*RAW, *AVERAGED)):
        return False
    tensors = sum(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    return tensors > 0 and tensors >= MOST * len(content)


def _is_container(content: Mapping[Any, Any], key: str) -> bool:
    return isinstance(content.get(key), Mapping) and len(content[key]) > 0


def _only(content: Mapping[Any, Any], passed: list[str], path: Path) -> str:
    found = [key for key in (*RAW, *AVERAGED) if _is_container(content, key)]
    if not found:
        raise _nothing(content, passed, path)
    if len(found) > 1:
        raise WeightsError(
            f"{path.name} holds several sets of weights: {', '.join(found)}",
            where=_where(path, passed),
            hint="save the one you mean in a file of its own",
        )
    return found[0]


def _nothing(content: Any, passed: list[str], path: Path) -> WeightsError:
    if isinstance(content, Mapping):
        keys = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
        what = f"{path.name} holds no state dict that zoo can find, only: {keys}"
    else:
        what = f"{path.name} holds no state dict but a {type(content).__name__}"
    return WeightsError(what, where=_where(path, passed), hint="save model.state_dict(): tensors by name")


def _where(path: Path, passed: list[str]) -> str:
    return f"{path}: {'.'.join(passed)}" if passed else str(path)


def _require_plain(tensors: Mapping[str, Tensor], path: Path) -> None:
    for key, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            raise WeightsError(
                f"{key} is not a plain tensor with values (sparse, quantised or meta)",
                where=str(path),
                hint="save dense, unquantised tensors",
            )
