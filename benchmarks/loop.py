"""zoo's training loop against a bare PyTorch loop: the same network, optimiser, settings and images, in memory.

ResNet-50, 64 px, batch 32. The bare loop is given images that are normalised already; zoo normalises its own. The two
take turns, a handful of steps each, and the ratio is that of the medians.

With `--processes 2` both are DistributedDataParallel in so many processes, which share the cores and the batch.

AMD EPYC, 2 cores; torch 2.14.1, timm 1.0.31, fp32, channels_last: zoo takes 0.993 × in one process with 2 threads (32.5
images/s); under DDP × 2 0.994, 1.061 and 0.994 × in three runs (28 to 30 images/s).
"""

import argparse
import os
import socket
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
from torch.nn.parallel import DistributedDataParallel

from zoo.callbacks import make_events
from zoo.data import Mix, Part, Preprocess
from zoo.devices.ddp import DDP
from zoo.devices.single import Single
from zoo.recipe import Recipe, resolve
from zoo.recipe.read import Document
from zoo.registry import load_registry
from zoo.registry.builtin.devices import ProcessesOptions
from zoo.registry.contracts import DeviceSettings, InputSpec, Strategy
from zoo.run.network import build_backbone, make_network
from zoo.run.steps import freeze
from zoo.train.checkpoint import Checkpoints
from zoo.train.job import About, Job
from zoo.train.loop import Loop
from zoo.train.optim import make_optimizer

BAR = 1.03
STEPS, ROUNDS, BATCH, SIDE, CLASSES = 6, 12, 32, 64, 10
BF16 = torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
SETTINGS = DeviceSettings(device="auto", precision="bf16" if BF16 else "fp32", channels_last=True)


class InMemory:
    """Batches that are there already."""

    steps_per_epoch = STEPS
    images_per_epoch = STEPS * BATCH
    bad = ()

    def __init__(self, strategy: Strategy) -> None:
        generator = torch.Generator().manual_seed(0)
        count = BATCH // strategy.processes
        self.batches = [
            Part(
                torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator),
                torch.randint(0, CLASSES, (count,), generator=generator),
                torch.arange(count),
                count,
                BATCH,
            )
            for _ in range(STEPS)
        ]

    def epoch(self, epoch: int, start_step: int = 0, source: object = None) -> Iterator[Part]:
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


def zoo_loop(data: InMemory, strategy: Strategy, folder: Path) -> Loop:
    """Return zoo's loop over the batches, with the callbacks that every run has."""
    chosen, preprocess = recipe(), Preprocess(InputSpec(size=(SIDE, SIDE)))
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
        "average": None,
        "about": About(chosen.to_table(), network.classes, preprocess.spec, lambda: network.model),
        "events": make_events({callback.part.name: callback.build(folder) for callback in chosen.callbacks}),
    }
    return Loop(Job(**job))


def bare_loop(data: InMemory, device: torch.device, processes: int) -> Any:
    """Return a function that trains on the batches as a short script would."""
    preprocess = Preprocess(InputSpec(size=(SIDE, SIDE)))
    network: torch.nn.Module = timm.create_model("resnet50", num_classes=CLASSES)
    network = network.to(device).to(memory_format=torch.channels_last).train()
    if processes > 1:
        network = DistributedDataParallel(network, gradient_as_bucket_view=True)
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
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=BF16):
                loss = cross_entropy(network(images).float(), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return train


def measure(strategy: Strategy) -> dict[str, float]:
    """Return the median seconds of a turn of each loop."""
    data = InMemory(strategy)
    with TemporaryDirectory() as folder:
        loop, bare = zoo_loop(data, strategy, Path(folder)), bare_loop(data, strategy.device, strategy.processes)
        loop._enter(loop.job.phases[0])
        loop.audit._first = None  # its look at the first step is benchmarks/audit.py's

        def zoo() -> None:
            for part in data.epoch(0):
                loop._step(part)
                loop._after_step()

        times: dict[str, list[float]] = {"zoo": [], "bare": []}
        for turn in range(ROUNDS + 1):
            for name, train in (("zoo", zoo), ("bare", bare)) if turn % 2 else (("bare", bare), ("zoo", zoo)):
                strategy.total([0])
                started = time.perf_counter()
                train()
                if strategy.device.type == "cuda":
                    torch.cuda.synchronize()
                if turn:
                    times[name].append(time.perf_counter() - started)
    return {name: median(found) for name, found in times.items()}


def one_of_several(rank: int, processes: int, port: int) -> None:
    """Measure in one process of several; rank 0 says it."""
    place = {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    strategy = DDP(ProcessesOptions(), SETTINGS)
    found = measure(strategy)
    if rank == 0:
        sys.exit(say(found, f"DDP × {processes}"))


def say(found: dict[str, float], what: str) -> int:
    """Print both rates; return whether zoo's misses the bar."""
    ratio = found["zoo"] / found["bare"]
    rates = {name: STEPS * BATCH / seconds for name, seconds in found.items()}
    print(f"{what}: zoo {rates['zoo']:.1f} images/s, bare {rates['bare']:.1f}: zoo takes {ratio:.3f} × (bar {BAR})")
    return int(ratio > BAR)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--processes", type=int, default=1)
    processes = words.parse_args().processes
    print(describe())
    if processes == 1:
        device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        return say(measure(Single(device, SETTINGS)), f"one process, {torch.get_num_threads()} threads")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    started = [
        torch.multiprocessing.get_context("spawn").Process(target=one_of_several, args=(rank, processes, port))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return max(process.exitcode or 0 for process in started)


if __name__ == "__main__":
    sys.exit(main())
