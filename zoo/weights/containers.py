"""What a checkpoint file holds besides the state dict, and how to find the state dict in it: by looking."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.errors import WeightsError

RAW = ("state_dict", "model", "model_state", "model_state_dict", "net", "network", "params", "module", "weights")
AVERAGED = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "ema_model", "net_ema", "params_ema", "swa_model")
PAIRED = ("student", "teacher")
KNOWN = (*RAW, *AVERAGED, *PAIRED)
TRAINING = ("optim", "sched", "scaler", "callback", "loss", "grad", "rng")
"""Words in the names of what training keeps beside the weights."""
MOST = 0.9  # share of a mapping's values that are tensors when it is the state dict and not a record around it
ALIKE = 0.5  # share of keys that a set has in common with the one beside it when both are of one model
DEPTH = 6  # containers in containers; deeper is no checkpoint that anyone saves
REACH = 4  # containers looked through for tensors; each may hold all the others
SPREAD = 64  # elements over those stored, of a tensor that repeats its values
LARGE = 1 << 30  # bytes that need no reason

Asked = tuple[str, ...]
"""What `weights.which` asks for, in order, that nothing has answered yet."""


class Found(NamedTuple):
    """A state dict, the containers passed (joined by dots), the keys that hold no tensor, and what is still asked."""

    inside: str
    tensors: dict[str, Tensor]
    others: tuple[str, ...]
    asked: Asked = ()


def unwrap(content: Any, path: Path, which: str | None = None) -> Found:
    """Return the state dict that the containers in `content` lead to.

    Known names (`state_dict`, `model`, `ema`, `teacher`, …) are looked into when tensors are in them; without one, the
    only mapping that is a state dict is taken, whatever it is called. Where several are side by side `which` decides:
    a container's own name, "raw" or "ema" where one is that; names joined by dots answer one choice after another.
    WeightsError: no state dict inside, several without a choice, sparse or quantised tensors.
    """
    passed: list[str] = []
    asked: Asked = tuple(which.split(".")) if which else ()
    while not _is_state(content):
        if len(passed) == DEPTH or not isinstance(content, Mapping):
            raise _nothing(content, passed, path)
        name, asked = _next(content, passed, asked, path)
        content = content[name]
        passed.append(name)
    tensors = {key: _plain(value) for key, value in content.items() if isinstance(value, Tensor)}
    _require_plain(tensors, path)
    return Found(".".join(passed), tensors, tuple(str(key) for key in content if key not in tensors), asked)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.requires_grad else tensor


def choose(names: Sequence[str], asked: Asked) -> str | None:
    """Return the one of `names` that the first word asked for means, None when none or several are meant."""
    averaged = [name for name in names if name in AVERAGED]
    raw = [name for name in names if name not in AVERAGED]
    meant = {"raw": raw, "ema": averaged}.get(asked[0], []) if asked else []
    exact = [name for name in names if asked and name == asked[0]]
    found = exact or meant
    return found[0] if len(found) == 1 else None


def several(names: Sequence[str], asked: Asked, path: Path, where: str) -> WeightsError:
    """Return the refusal of a file with several sets of weights of which none is chosen."""
    listed = " or ".join(f'"{name}"' for name in names)
    told = f', and which = "{".".join(asked)}" is none or several of them' if asked else ""
    return WeightsError(
        f"{path.name} holds several sets of weights: {', '.join(names)}{told}",
        where=where,
        hint=f"choose one in [weights]: which = {listed}",
    )


def _is_state(content: Any) -> bool:
    if not isinstance(content, Mapping) or any(_leads(content.get(key)) for key in KNOWN):
        return False
    tensors = sum(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    return tensors > 0 and tensors >= MOST * len(content)


def _leads(content: Any, depth: int = 0) -> bool:
    """Tell whether tensors are in a mapping, or in containers of known names in it."""
    if not isinstance(content, Mapping) or depth == REACH:
        return False
    if any(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        return True
    return any(_leads(content.get(key), depth + 1) for key in KNOWN)


def _next(content: Mapping[Any, Any], passed: list[str], asked: Asked, path: Path) -> tuple[str, Asked]:
    sets = _sets(content)
    if not sets:
        raise _nothing(content, passed, path)
    if len(sets) == 1:
        return sets[0], asked[1:] if asked[:1] == (sets[0],) else asked
    name = choose(sets, asked)
    if name is None:
        raise several(sets, asked, path, _where(path, passed))
    return name, asked[1:]


def _sets(content: Mapping[Any, Any]) -> list[str]:
    """Return the keys under which weights are: known names, and any other that holds the same tensors again."""
    known = [key for key in KNOWN if _leads(content.get(key))]
    others = [key for key in content if isinstance(key, str) and key not in known]
    if not known:
        return [key for key in others if _is_state(content[key]) and not _is_of_training(key)] or [
            key for key in others if next(_states(content[key], key), None)
        ]
    models = [_outline(state) for key in known for state in _states(content[key], key)]
    return known + [
        key
        for key in others
        if any(_alike(_outline(state), model) for state in _states(content[key], key) for model in models)
    ]


def _states(content: Any, key: str, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield every state dict in a container, whatever the containers around it are called."""
    if not isinstance(content, Mapping) or depth == REACH or _is_of_training(key):
        return
    if _is_state(content):
        yield content
        return
    for inner, value in content.items():
        if isinstance(inner, str):
            yield from _states(value, inner, depth + 1)


def _outline(state: Mapping[str, Any]) -> Counter[tuple[str, tuple[int, ...]]]:
    """What tells a model's tensors whatever stands before their names."""
    return Counter(
        (key.rpartition(".")[2], tuple(value.shape)) for key, value in state.items() if isinstance(value, Tensor)
    )


def _alike(one: Counter[Any], two: Counter[Any]) -> bool:
    return (one & two).total() >= ALIKE * one.total()


def _is_of_training(key: str) -> bool:
    return any(word in key.lower() for word in TRAINING)


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
        size, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        if size > LARGE and size > SPREAD * stored:
            raise WeightsError(
                f"{key} has {size:,} bytes of which the file holds {stored:,}",
                where=str(path),
                hint="no weights repeat themselves so often: do not trust where the file came from",
            )
