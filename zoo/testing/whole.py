"""Checks of backbones and heads in a whole network: what is exported, and what two processes train."""

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from zoo.export.state import build_safetensors
from zoo.heads.linear import LinearHead
from zoo.registry import kinds
from zoo.registry.builtin.devices import ProcessesOptions
from zoo.registry.builtin.export import SafetensorsOptions
from zoo.registry.contracts import Backbone, Described, Exportable, Strategy
from zoo.testing import backbones, devices
from zoo.testing.kit import NotTriedError, Trial, check, expect
from zoo.testing.network import CLASSES, alike, apart, draw, make, perturbed, small_backbone, target
from zoo.testing.processes import together
from zoo.train.model import Model, native_names, native_state

IMAGES = 4


def network(trial: Trial) -> tuple[Model, Backbone]:
    """Return a model around the part, always with the same weights: a backbone with a linear head, or the head on the
    kit's own backbone."""
    if trial.part.kind is kinds.BACKBONE:
        backbone = backbones.build(trial)
        head: Any = make(lambda: LinearHead(backbone.spec, len(CLASSES)))
    else:
        backbone = small_backbone()
        head = make(lambda: trial.build(backbone.spec, target()))
    model = Model(backbone, {"main": head}, {"main": 1.0})
    perturbed(model)
    return model, backbone


@check("what is deployed is the export, not the model that was trained")
def exports(trial: Trial) -> None:
    """Weights that the library's own model loads, with the logits of the trained one."""
    model, backbone = network(trial)
    names = native_names(model, backbone, "main")
    state = native_state(model, names)
    exportable = Exportable(native=backbone.native, input=backbone.input, classes=CLASSES, state=state)
    if f"{backbone.native.classifier}.weight" not in state:
        raise NotTriedError("the network has no native classifier: it is exported by other formats")
    exporter = build_safetensors(SafetensorsOptions())
    exporter.check(exportable)
    folder = trial.folder / "export"
    folder.mkdir()
    exporter.write(exportable, folder)
    known = Described(**{field.name: getattr(exportable, field.name) for field in fields(Described)})
    images = draw(2, 3, *backbone.input.size)
    with torch.no_grad():
        found, expected = exporter.read(known, folder)(images), model.eval()(images)["main"]
    expect(alike(found, expected, exporter.tolerance), "the trained model's logits", apart(found, expected))


@check("several devices must train what one device trains", slow=True)
def two_processes(trial: Trial) -> None:
    """Under DDP with two processes a step leads to the weights of a single device, in both."""
    expected = _step(trial, devices.single())
    found = together(trial.folder / "processes", 2, _step_there, trial)
    for rank, own in enumerate(found):
        for name, tensor in expected.items():
            words = f"{name} of a single device in process {rank}"
            expect(alike(own[name], tensor, 1e-4), words, apart(own[name], tensor))


def _step(trial: Trial, strategy: Strategy) -> dict[str, Tensor]:
    model, backbone = network(trial)
    model.eval()  # batch statistics and dropout differ with the batch
    strategy.place(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    wrapped = strategy.wrap(model)
    images, targets = draw(IMAGES, 3, *backbone.input.size), torch.arange(IMAGES) % len(CLASSES)
    rank, processes = strategy.rank, strategy.processes
    logits = wrapped(images.tensor_split(processes)[rank])
    strategy.backward(model.loss(logits, targets.tensor_split(processes)[rank]).sum() / IMAGES)
    strategy.step(optimizer, None)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _step_there(trial: Trial) -> dict[str, Tensor]:
    strategy: Strategy = devices.ddp().builder()(ProcessesOptions(timeout=60), devices.SETTINGS)
    found = _step(trial, strategy)
    strategy.close()
    return found


CHECKS = (exports, two_processes)
