"""Bundles of small networks that nobody trained, written in a second; and what stands in for an exporter."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tests.bundle.photos import CLASSES, Photos, photos
from tests.train.tiny import make_model
from zoo.backbones.timm import build as build_timm
from zoo.backbones.torchvision import build as build_torchvision
from zoo.bundle.golden import GoldenImage, make_golden
from zoo.bundle.manifest import Part
from zoo.bundle.writing import Facts, Format, Reference, write_bundle
from zoo.errors import ZooError
from zoo.export.native import build_network
from zoo.registry import Registry, kinds
from zoo.registry.builtin.backbones import TimmOptions, TorchvisionOptions
from zoo.registry.contracts import Described, Exportable, Exporter, InputSpec, Native
from zoo.registry.events import ArtefactWritten
from zoo.train.model import native_names, native_state

SPEC = InputSpec((32, 32))
ACCURACY: Callable[..., float] = lambda network: 1.0  # noqa: E731


@cache
def make_model_of(arch: str = "timm/test_resnet", spec: InputSpec = SPEC) -> tuple[Exportable, Part]:
    """Return a network with first values, always the same, and lived-in batch norms; and its part of a recipe."""
    library, _, name = arch.partition("/")
    options = TimmOptions(arch=name) if library == "timm" else TorchvisionOptions(arch=name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        build: Any = build_timm if library == "timm" else build_torchvision
        backbone = build(options, spec.size)
    model = make_model(backbone).train()
    model(torch.randn(4, 3, *spec.size, generator=torch.Generator().manual_seed(0)))
    state = native_state(model.eval(), native_names(model, backbone, "main"))
    part = Part(use=library, options=options.model_dump(mode="json"))
    return Exportable(native=backbone.native, input=spec, classes=CLASSES, state=state), part


def facts(part: Part, **changes: Any) -> Facts:
    """Return what a bundle says of a run that never was."""
    told: dict[str, Any] = {
        "name": "tiny",
        "backbone": part,
        "data_classes": CLASSES,
        "weights": "best",
        "checkpoint": "step-00000007",
        "metrics": {"val/accuracy": 0.75},
        "licence": "Apache-2.0",
        "base": ("file x.pth", "a" * 64),
        "data": ("imagefolder: train 36, val 15", "b" * 64),
        "parts": {"backbone timm": "zoo (zoo-finetune 0.1.0)"},
        "recipe": "format = 1\n",
        "ledger": {"loaded": ["conv1.weight"]},
    }
    return Facts(**{**told, **changes})


def formats(registry: Registry, *chosen: str | tuple[str, Mapping[str, Any]]) -> list[Format]:
    """Return exporters by name, with options or without."""
    made = []
    for one in chosen:
        name, options = (one, {}) if isinstance(one, str) else one
        part = registry.find(kinds.EXPORT, name).part
        made.append(Format(name, dict(options), part.builder()(part.options(**options))))
    return made


@cache
def three_photos(spec: InputSpec) -> tuple[GoldenImage, ...]:
    return make_golden(photos(3), CLASSES, spec)


def write(
    path: Path,
    chosen: Sequence[Format],
    arch: str = "timm/test_resnet",
    spec: InputSpec = SPEC,
    split: Photos | None = None,
    accuracy: Callable[..., float] = ACCURACY,
    **changes: Any,
) -> tuple[ArtefactWritten, ...]:
    """Write a bundle; `changes` are facts."""
    model, part = make_model_of(arch, spec)
    images = make_golden(split, CLASSES, spec) if split else three_photos(spec)
    return write_bundle(path, model, chosen, Reference(build_network(model), images, accuracy), facts(part, **changes))


class Faulty:
    """An exporter of safetensors with faults: `spoil` changes what it reads back, `fail` names what raises."""

    tolerance = 1e-5
    max_drop: float | None = None
    takes: Literal["normalised", "decoded"] = "normalised"

    def __init__(
        self,
        spoil: Callable[[Tensor], Tensor] = lambda logits: logits,
        fail: Mapping[str, Exception] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self._spoil, self._fail = spoil, fail or {}
        self._files = files or {"model.x": b"x"}

    def runtime(self, native: Native) -> str:
        return "torch"

    def _may_fail(self, what: str) -> None:
        if what in self._fail:
            raise self._fail[what]

    def check(self, model: Exportable) -> None:
        self._may_fail("check")

    def write(self, model: Exportable, folder: Path) -> tuple[Path, ...]:
        for name, data in self._files.items():
            (folder / name).write_bytes(data)
        self._may_fail("write")
        self._model = model
        return tuple(folder / name for name in self._files)

    def read(self, model: Described, folder: Path) -> Callable[[Tensor], Tensor]:
        self._may_fail("read")
        network = build_network(self._model)
        return lambda images: self._spoil(network(images))

    def code(self, model: Described) -> str:
        return ""


def faulty(name: str = "faulty", **keys: Any) -> Format:
    """Return `Faulty` as a recipe's exporter."""
    made: Exporter = Faulty(**keys)
    return Format(name, {}, made)


def refusal(call: Callable[[], object]) -> str:
    """Return what a ZooError says."""
    try:
        call()
    except ZooError as error:
        return str(error)
    raise AssertionError("nothing was refused")
