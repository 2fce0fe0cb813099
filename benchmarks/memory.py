"""What `zoo.train.memory` says a run takes, against what it takes on the CPU.

Each case is estimated, and then trained for three steps in a process of its own: fp32, default memory format, AdamW,
random images. Measured is the highest resident memory less that just before the model is built, after a tiny network
has been trained, so that the libraries are loaded. Twice:

- need: the C library told to give every freed block back (MALLOC_MMAP_THRESHOLD_). The bar is for this.
- as it is: what `zoo` asks of glibc (`zoo.cli.process`), which keeps freed blocks between live ones, and cannot always
  use them again. That depends on its version and on the order of small blocks; the estimate leaves it out.

AMD EPYC, 2 cores (AVX2); Python 3.11.7, torch 2.14.1, timm 1.0.31, glibc 2.36; estimate / need, estimate / as it is:
resnet50 (64 px, batch 64)               781 MB / 803 MB = 0.97, /  961 MB = 0.81
tf_efficientnet_lite0 (128 px, batch 32) 890 MB / 906 MB = 0.98, / 1090 MB = 0.82
vit_tiny_patch16_224 (224 px, batch 16)  557 MB / 574 MB = 0.97, /  663 MB = 0.84
convnext_tiny (224 px, batch 4)          817 MB / 852 MB = 0.96, /  937 MB = 0.87
resnet50, stem and two stages frozen     442 MB / 462 MB = 0.96, /  551 MB = 0.80
An estimate takes about a second of an idle core.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import describe
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from zoo.backbones import timm, torchvision
from zoo.devices.single import Single
from zoo.heads.linear import LinearHead
from zoo.memory import settle
from zoo.meta import on_meta
from zoo.registry.builtin.backbones import TimmOptions, TorchvisionOptions
from zoo.registry.contracts import Backbone, DeviceSettings
from zoo.train.memory import estimate_memory
from zoo.train.model import Model

BAR, STEPS, CLASSES = 0.15, 3, 10
SETTINGS = DeviceSettings(device="cpu", precision="fp32", channels_last=False)
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
LIBRARIES: dict[str, Callable[[str, int], Backbone]] = {
    "timm": lambda arch, side: timm.build(TimmOptions(arch=arch), (side, side)),
    "torchvision": lambda arch, side: torchvision.build(TorchvisionOptions(arch=arch), (side, side)),
}


@dataclass(frozen=True)
class Case:
    """A run: `frozen` are the backbone's modules that do not train."""

    library: str
    arch: str
    side: int
    batch: int
    frozen: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[int, int, int, int]:
        """The shape of a batch."""
        return self.batch, 3, self.side, self.side

    def build(self) -> tuple[Model, Optimizer]:
        """Return the model and its optimiser, on the device that is torch's default."""
        backbone = LIBRARIES[self.library](self.arch, self.side)
        model = Model(backbone, {"main": LinearHead(backbone.spec, CLASSES)}, {"main": 1.0}).train()
        for name in self.frozen:
            model.backbone.get_submodule(name).eval().requires_grad_(False)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return model, torch.optim.AdamW(trained)


CASES = {
    "resnet50": Case("timm", "resnet50", 64, 64),
    "efficientnet_lite0": Case("timm", "tf_efficientnet_lite0", 128, 32),
    "vit_tiny": Case("timm", "vit_tiny_patch16_224", 224, 16),
    "convnext_tiny": Case("torchvision", "convnext_tiny", 224, 4),
    "resnet50, half frozen": Case("timm", "resnet50", 64, 64, ("conv1", "bn1", "layer1", "layer2")),
}


def resident(key: str) -> int:
    """Return a figure of this process's memory, in bytes; what getrusage says includes the process that started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(key))


def alone(case: Case) -> int:
    """Train a few steps and print by how many bytes this process grew at most."""
    _load_libraries()
    Path("/proc/self/clear_refs").write_text("5")  # the highest is what is now
    before = resident("VmRSS")
    model, optimizer = case.build()
    strategy = Single(torch.device("cpu"), SETTINGS)
    for _ in range(STEPS):
        batch = torch.randint(0, 256, case.images, dtype=torch.uint8)
        images, target = batch.float().div_(255), torch.randint(0, CLASSES, (case.batch,))
        strategy.backward(model.loss(model(images), target).sum() / case.batch)
        strategy.step(optimizer, None)
    print(resident("VmHWM") - before)
    return 0


def _load_libraries() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
    optimizer = torch.optim.AdamW(network.parameters())
    for _ in range(2):
        cross_entropy(network(torch.randn(2, 3, 8, 8)), torch.zeros(2, dtype=torch.long)).backward()
        optimizer.step()


def measured(name: str, environment: dict[str, str]) -> int:
    """Return the bytes that a case takes, trained in a process of its own."""
    command = [sys.executable, __file__, "--alone", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **environment})
    return int(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", choices=CASES, help=argparse.SUPPRESS)
    chosen = parser.parse_args().alone
    if chosen:
        settle()  # as the command does; what the environment says holds
        return alone(CASES[chosen])
    print(describe())
    print(f"{'':<22} {'estimate':>8} {'need':>8} {'ratio':>6} {'as it is':>9} {'ratio':>6} {'time':>7}")
    good = 0
    for name, case in CASES.items():
        with on_meta():
            model, optimizer = case.build()
        started = time.perf_counter()
        estimate = estimate_memory(model, optimizer, case.images, SETTINGS).peak
        seconds = time.perf_counter() - started
        need, usual = measured(name, GIVE_BACK), measured(name, {})
        good += abs(estimate / need - 1) <= BAR
        print(
            f"{name:<22} {estimate / 1e6:>5.0f} MB {need / 1e6:>5.0f} MB {estimate / need:>6.2f} "
            f"{usual / 1e6:>6.0f} MB {estimate / usual:>6.2f} {seconds:>5.2f} s"
        )
    print(f"within {BAR:.0%} of the need: {good} of {len(CASES)} (bar: all)")
    return int(good < len(CASES))


if __name__ == "__main__":
    sys.exit(main())
