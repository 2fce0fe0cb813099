"""Names with what training code wraps around a model, and models that are wrapped themselves."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tests.weights.corpus.case import Case, Truth, changed, prefixed, refused, save, short, whole
from tests.weights.corpus.models import SMALL, Holder, State, holding
from zoo.registry.contracts import WeightsFile

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module")
DEPTH = 3
RESNET = "timm/test_resnet"
PREFIXES = ("", "module.", "model.", "_orig_mod.model.module.")
EXCHANGED = refused(
    r"x\.pth does not fit the model: 0\.00 % of the backbone's [\d,]+ elements are covered",
    r"not in the file: timm_model\..+ of the model",
    r"not in the model: .*model\..+ of the file",
)

Wrap = Callable[[nn.Module], nn.Module]


def cases() -> Iterator[Case]:
    yield from _outside()
    yield from _within()
    yield from _real()
    yield from _into()
    yield from _siamese()
    yield from _own()


def _outside() -> Iterator[Case]:
    """Every order of wrappers to depth 3, each wrapper as often as wanted."""
    orders = [order for depth in range(1, DEPTH + 1) for order in product(WRAPPERS, repeat=depth)]
    for number, order in enumerate(orders):
        around = ".".join(order)
        yield changed("wrapper", around, SMALL[number % len(SMALL)], partial(prefixed, f"{around}."))


def _insert(depth: int, state: State) -> State:
    """Put wrappers at every place of every path, another one at each."""
    return {_inserted(name.split("."), depth): value for name, value in state.items()}


def _inserted(parts: list[str], depth: int) -> str:
    wrapped = [[*(WRAPPERS[(place + turn) % 3] for turn in range(depth)), part] for place, part in enumerate(parts)]
    return ".".join(segment for group in wrapped for segment in group)


def _before_the_last(state: State) -> State:
    """What FSDP and activation checkpointing do to single layers."""
    return {
        ".".join([path, "_checkpoint_wrapped_module", last]) if path else last: value
        for name, value in state.items()
        for path, _, last in [name.rpartition(".")]
    }


def _within() -> Iterator[Case]:
    for number, architecture in enumerate(SMALL):
        depth = number % 3 + 1
        yield changed("wrapper within", f"{short(architecture)} {depth}", architecture, partial(_insert, depth))
    for architecture in SMALL[:3]:
        yield changed("wrapper within", f"{short(architecture)} layers", architecture, _before_the_last)


def _compiled(model: nn.Module) -> nn.Module:
    return cast(nn.Module, torch.compile(model))


def _ema(model: nn.Module) -> nn.Module:
    return ModelEmaV3(model, decay=0.5)


REAL: dict[str, Wrap] = {
    "DataParallel": nn.DataParallel,
    "compile": _compiled,
    "compile of DataParallel": lambda model: _compiled(nn.DataParallel(model)),
    "DataParallel of compile": lambda model: nn.DataParallel(_compiled(model)),
    "compiled Sequential of DataParallel": lambda model: _compiled(nn.Sequential(nn.DataParallel(model))),
    "Lightning": Holder,
    "Lightning of compile": lambda model: Holder(_compiled(model)),
    "DataParallel of Lightning of DataParallel": lambda model: nn.DataParallel(Holder(nn.DataParallel(model), "net")),
    "Hugging Face": partial(Holder, name="timm_model"),
    "in a namespace of two": lambda model: Holder(Holder(model, "trunk"), "my_network"),
    "Fabric": partial(Holder, name="_forward_module"),
    "timm's EMA": _ema,
}
"""Wrappers as they are, around the model that is saved."""


def _save_wrapped(wrap: Wrap, architecture: str, folder: Path) -> WeightsFile:
    return save(wrap(holding(architecture)).state_dict(), folder / "x.pth")


def _real() -> Iterator[Case]:
    for number, (name, wrap) in enumerate(REAL.items()):
        architecture = SMALL[number % 4]
        yield Case(f"saved from {name}", "real wrapper", architecture, partial(_save_wrapped, wrap, architecture))
    averaged = partial(_save_wrapped, AveragedModel, RESNET)
    lines = refused(r"not in the model: n_averaged of the file")
    yield Case("saved from AveragedModel", "real wrapper", RESNET, averaged, lines)
    options = {"may_drop": ["n_averaged"]}
    yield Case("saved from AveragedModel, allowed", "real wrapper", RESNET, averaged, options=options)


def _into() -> Iterator[Case]:
    """Bare, equally and otherwise named files into models that are wrapped."""
    into: dict[str, Wrap] = {name: REAL[name] for name in list(REAL)[:7]}
    into["Hugging Face"] = REAL["Hugging Face"]
    for (number, (name, wrap)), prefix in product(enumerate(into.items()), PREFIXES):
        # One name that means nothing is taken off or put on, never put in another's place.
        truth = EXCHANGED if name == "Hugging Face" and "model." in prefix else whole
        name = f"{prefix or 'bare'} into {name}"
        yield changed("into a wrapped model", name, SMALL[number % 4], partial(prefixed, prefix), truth, into=wrap)


class _Siamese(nn.Module):
    """Two networks of one kind, as self-supervised training has them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.encoder_q, self.encoder_k = inner, copy.deepcopy(inner)


def _siamese() -> Iterator[Case]:
    kind, options = "into a wrapped model", {"may_miss": ["encoder_k.*"]}
    for prefix in ("", "encoder_q.", "module.model."):
        name, change = f"{prefix or 'bare'} into one of two", partial(prefixed, prefix)
        yield changed(kind, name, RESNET, change, into=_Siamese, options=options)
    lines = refused(r"not in the file: encoder_[kq]\..+ of the model")
    yield changed(kind, "bare into both of two", RESNET, dict, lines, into=_Siamese)


def _bare_unit(state: State) -> State:
    return {name: value for name, value in state.items() if not name.startswith("module.")}


def _own() -> Iterator[Case]:
    """Modules that are truly called `module` and `model`."""
    for outer in ("", "module.", "model.", "_orig_mod.module.", "module.module.", "net."):
        yield _named("own", f"{outer or 'bare'}", partial(prefixed, outer))
    for outer in ("", "_orig_mod.", "net.", "_fsdp_wrapped_module._orig_mod.", "module."):
        yield _named("own, twice", f"{outer or 'bare'}", partial(prefixed, outer))
    half = refused(r"not in the file: module\.unit\.conv\.weight, .+, … \(6 tensors\) of the model")
    yield _named("own, twice", "only the one without", _bare_unit, half)
    yield _named(
        "own, twice", "the one without, wrapped", lambda state: prefixed("_orig_mod.", _bare_unit(state)), half
    )


def _named(architecture: str, name: str, change: Any, truth: Truth = whole) -> Case:
    return changed("names of its own", f"{short(architecture)}: {name}", architecture, change, truth)
