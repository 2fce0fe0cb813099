"""torchvision's own weights, by their names in its enums."""

import re
from functools import partial

import torchvision
from torchvision.models import WeightsEnum, get_model_weights, list_models

from zoo.errors import WeightsError, nearest
from zoo.registry.builtin.weights import TorchvisionWeightsOptions
from zoo.registry.contracts import InputSpec, Native, WeightsFile, WeightsRequest
from zoo.weights.cache import fetched
from zoo.weights.download import download, file_name, shown
from zoo.weights.equivalents import equivalent

OLDER: dict[str, tuple[tuple[str, str], ...]] = {
    "densenet": ((r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2."),),
    "vit_": ((r"\.mlp\.linear_1\.", ".mlp.0."), (r"\.mlp\.linear_2\.", ".mlp.3.")),
}
"""By the beginning of an architecture's name: files older than the names of the layers (`_load_from_state_dict`)."""
AUXILIARY = {"googlenet": ("aux1.*", "aux2.*"), "inception_v3": ("AuxLogits.*",)}
"""Classifiers that only served training from scratch: the models are built without them."""
UNSTATED = "torchvision states none"


def build(options: TorchvisionWeightsOptions, request: WeightsRequest) -> WeightsFile:
    """Return the file, downloaded into the cache unless it lies there; its SHA-256 begins with what its name says.

    Class names and preprocessing are those of the enum. WeightsError: torchvision has no such weights for the
    architecture that asks, or they cannot be had (see `zoo.weights.download.download`).
    """
    arch = _arch(request.native)
    weights = _find(arch, options.weights)
    url = address(weights)
    found = fetched(request.cache, file_name(url), _digits(url), partial(download, url))
    return WeightsFile(
        found.path,
        origin=_origin(arch, weights),
        sha256=found.sha256,
        architecture=f"torchvision/{arch}",
        rename=next((rules for family, rules in OLDER.items() if arch.startswith(family)), ()),
        may_drop=AUXILIARY.get(arch, ()),
        input=_input(weights),
        classes=tuple(weights.meta.get("categories") or ()) or None,
        licence=weights.meta.get("license", UNSTATED),
    )


def address(weights: WeightsEnum) -> str:
    """Return where the file of an enum's entry lies."""
    return str(weights.url)


def _arch(native: Native) -> str:
    """Return torchvision's name of the architecture that asks, or of the one in it that is the same network."""
    if native.library == "torchvision":
        return native.arch
    same = equivalent(native.identity)
    if same is not None:
        return same.partition("/")[2]
    known = native.arch in list_models(module=torchvision.models)
    raise WeightsError(
        f"torchvision has no network that is the same as {native.identity}",
        where="[weights] use",
        hint='[backbone] use = "torchvision"' + (f', arch = "{native.arch}"; or other weights' if known else ""),
    )


def _find(arch: str, name: str) -> WeightsEnum:
    offered = get_model_weights(arch)
    if name not in offered.__members__:
        what = f"torchvision has no weights {name!r} for {arch}"
        raise WeightsError(what, where="[weights] weights", hint=nearest(name, offered.__members__))
    found: WeightsEnum = offered[name]
    return found


def _digits(url: str) -> str:
    """Return the hex digits of the SHA-256 that torchvision writes into a file's name: eight, sometimes ten."""
    found = re.search(r"-([0-9a-f]{8,64})\.pth$", file_name(url))
    if found is None:
        raise WeightsError(f"{file_name(url)} has no part of its SHA-256 in its name", shown(url), 'use = "url"')
    return found[1]


def _origin(arch: str, weights: WeightsEnum) -> str:
    """The entry's name and, where torchvision says it, its accuracy."""
    figures = [
        f"{dataset} {metric} {value}"
        for dataset, metrics in weights.meta.get("_metrics", {}).items()
        for metric, value in metrics.items()
        if metric == "acc@1"
    ]
    return f"torchvision {arch} {weights.name}" + (f" ({figures[0]})" if figures else "")


def _input(weights: WeightsEnum) -> InputSpec:
    expected = weights.transforms()
    side, shorter = expected.crop_size[0], expected.resize_size[0]
    return InputSpec(
        size=(side, side),
        mean=tuple(expected.mean),
        std=tuple(expected.std),
        interpolation=expected.interpolation.value,
        crop_pct=min(side / shorter, 1.0),
    )
