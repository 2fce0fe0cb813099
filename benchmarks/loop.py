"""zoo's training loop against a bare PyTorch loop: the same network, optimiser, settings and images, in memory.

ResNet-50, 64 px, batch 32. The bare loop is given images that are normalised already; zoo normalises its own. The two
take turns, a handful of steps each, and the ratio is that of the medians.

AMD EPYC, 2 cores; torch 2.15.0, timm 1.0.31, bf16, channels_last: zoo takes 0.979 × (noise; the bar is 1.03).
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from machine import describe
from torch.nn.functional import cross_entropy

from zoo.callbacks import make_events
from zoo.data import Batch, Mix, Preprocess
from zoo.devices.single import Single
from zoo.recipe import Recipe, resolve
from zoo.recipe.read import Document
from zoo.registry import load_registry
from zoo.registry.contracts import DeviceSettings, InputSpec
from zoo.run.network import build_backbone, make_network
from zoo.run.steps import freeze
from zoo.train.checkpoint import Checkpoints
from zoo.train.loop import Job, Loop
from zoo.train.optim import make_optimizer

BAR = 1.03
STEPS, ROUNDS, BATCH, SIDE, CLASSES = 6, 12, 32, 64, 10
SETTINGS = DeviceSettings(device="auto", precision="bf16", channels_last=True)


class InMemory:
    """Batches that are there already."""

    steps_per_epoch = STEPS
    images_per_epoch = STEPS * BATCH
    bad = ()

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (BATCH, 3, SIDE, SIDE)
        self.batches = [
            Batch(
                torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
                torch.randint(0, CLASSES, (BATCH,), generator=generator),
                torch.arange(BATCH),
            )
            for _ in range(STEPS)
        ]

    def epoch(self, epoch: int, start_step: int = 0, source: object = None) -> Iterator[Batch]:
        """Yield them."""
        return iter(self.batches[start_step:])


def recipe() -> Recipe:
    """Return the settings of both loops."""
    table = {
        "format": 1,
        "run": {"name": "loop", "epochs": 1_000_000, "batch_size": BATCH},
        "backbone": {"use": "timm", "arch": "resnet50"},
        "data": {"use": "digits"},
        "schedule": {"use": "constant"},
    }
    return resolve(Document(table), load_registry(candidates=()))


def zoo_loop(data: InMemory, folder: Path) -> Loop:
    """Return zoo's loop over the batches, with the callbacks that every run has."""
    chosen, strategy, preprocess = recipe(), Single(_device(), SETTINGS), Preprocess(InputSpec(size=(SIDE, SIDE)))
    network = make_network(chosen, build_backbone(chosen, None), tuple(map(str, range(CLASSES))))
    strategy.place(network.model.train())
    phases = freeze(chosen, network)
    job: dict[str, Any] = {
        "run": chosen.run,
        "optim": chosen.optim,
        "schedule": chosen.schedule,
        "checkpoint": chosen.checkpoint,
        "model": network.model,
        "optimizer": make_optimizer(chosen.optim, network.model, phases),
        "strategy": strategy,
        "train": data,
        "val": (),
        "val_images": 0,
        "normalise": preprocess.normalise,
        "mix": Mix(0, 0, CLASSES),
        "checkpoints": Checkpoints(folder, 1),
        "directions": {},
        "layout": network.layout(1),
        "phases": phases,
        "keep": False,
        "events": make_events({callback.part.name: callback.build(folder) for callback in chosen.callbacks}),
    }
    return Loop(Job(**job))


def _device() -> torch.device:
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def bare_loop(data: InMemory) -> Any:
    """Return a function that trains on the batches as a short script would."""
    device, preprocess = _device(), Preprocess(InputSpec(size=(SIDE, SIDE)))
    network = (
        timm.create_model("resnet50", num_classes=CLASSES).to(device).to(memory_format=torch.channels_last).train()
    )
    decayed = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    batches = [
        (preprocess.normalise(batch.images).to(device).to(memory_format=torch.channels_last), batch.targets.to(device))
        for batch in data.batches
    ]

    def train() -> None:
        for images, targets in batches:
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = cross_entropy(network(images).float(), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return train


def main() -> int:
    print(describe())
    data = InMemory()
    with TemporaryDirectory() as folder:
        loop, bare = zoo_loop(data, Path(folder)), bare_loop(data)

        def zoo() -> None:
            for batch in data.epoch(0):
                loop._step(batch)
                loop._after_step()

        times: dict[str, list[float]] = {"zoo": [], "bare": []}
        for turn in range(ROUNDS + 1):
            for name, train in (("zoo", zoo), ("bare", bare)) if turn % 2 else (("bare", bare), ("zoo", zoo)):
                started = time.perf_counter()
                train()
                if _device().type == "cuda":
                    torch.cuda.synchronize()
                if turn:
                    times[name].append(time.perf_counter() - started)
    rates = {name: STEPS * BATCH / median(found) for name, found in times.items()}
    ratio = median(times["zoo"]) / median(times["bare"])
    print(f"zoo {rates['zoo']:.1f} images/s, bare {rates['bare']:.1f} images/s: zoo takes {ratio:.3f} × (bar {BAR})")
    return int(ratio > BAR)


if __name__ == "__main__":
    sys.exit(main())
