"""Building a model and giving it the weights of a safetensors file: zoo against torch's own shortest way, and timm's.

- zoo: `with on_meta(): model = create_model(…)`, then `zoo.weights.load(model, file)`, which hashes the file (or
  remembers its digest), checks every value for NaN and Inf, writes the ledger and compares the model with it.
- meta: `with torch.device("meta"): …`, `safetensors.torch.load_file`, `load_state_dict(assign=True)`. Checks nothing.
- timm: `create_model(…)`, `load_file`, `load_state_dict`.

The three take turns in one process; a figure is the median. Each also runs alone, in a process of its own, for its peak
memory beyond the imports. "first time": zoo with no digest remembered, which has to hash the whole file; it is shown,
and the bars are for what comes after.

AMD EPYC, 2 cores; torch 2.14.1, timm 1.0.31, safetensors 0.8.0, files in the page cache, medians of 9:
ResNet-50 (102 MB): zoo 0.62 × meta, 0.18 × timm, peak 1.06 × the model; first time 1.4 × meta, 0.41 × timm.
ViT-L/16 (1,217 MB): zoo 0.38 × meta, 0.03 × timm, peak 1.01 × the model; first time 3.1 × meta, 0.22 × timm.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import timm
import torch
from machine import describe
from safetensors.torch import load_file, save_file
from torch import nn

from zoo.meta import on_meta
from zoo.weights import digests, load

ARCHITECTURES = ("resnet50", "vit_large_patch16_224")  # 25.6 and 304 million parameters
ROUNDS = 9
OF_META, OF_TIMM, OF_MODEL = 1.1, 0.5, 1.2  # bars: × the time of the meta way, × that of timm's, × the model's bytes


def zoo(arch: str, path: Path) -> nn.Module:
    """Build on the meta device and load."""
    with on_meta():
        model: nn.Module = timm.create_model(arch)
    load(model, path)
    return model


def meta(arch: str, path: Path) -> nn.Module:
    """Build on the meta device and assign what the file holds."""
    with torch.device("meta"):
        model: nn.Module = timm.create_model(arch)
    model.load_state_dict(load_file(path), strict=True, assign=True)
    return model


def ordinary(arch: str, path: Path) -> nn.Module:
    """Build with random values and copy those of the file over them."""
    model: nn.Module = timm.create_model(arch)
    model.load_state_dict(load_file(path), strict=True)
    return model


WAYS: dict[str, Callable[[str, Path], nn.Module]] = {"zoo": zoo, "meta": meta, "timm": ordinary}


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def first_time(arch: str, path: Path) -> None:
    """Load with no digest remembered."""
    digests._note().unlink(missing_ok=True)
    zoo(arch, path)


def peak(way: str, arch: str, path: Path) -> int:
    """Return the bytes that one way needs beyond the imports, measured in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--alone", way, arch, str(path)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def alone(way: str, arch: str, path: Path) -> int:
    """Run one way once and print its peak memory, in bytes, beyond what was there before."""
    before = resident("VmRSS")
    kept = WAYS[way](arch, path)
    print(resident("VmHWM") - before)
    return 0 if kept is not None else 1


def resident(key: str) -> int:
    """Return a figure of this process's memory, in bytes; what getrusage says includes the process that started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(key))


def measure(arch: str, folder: Path) -> bool:
    """Print the figures of one architecture; return whether all bars are met."""
    path = folder / f"{arch}.safetensors"
    save_file(timm.create_model(arch).state_dict(), path)
    time.sleep(digests.SETTLED)
    works = {name: partial(way, arch, path) for name, way in WAYS.items()} | {
        "first time": partial(first_time, arch, path)
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(ROUNDS + 1):
        for name, work in works.items():
            taken = seconds(work)
            times[name] += [taken] if turn else []
    middle = {name: median(found) for name, found in times.items()}
    size = path.stat().st_size
    peaks = {name: peak(name, arch, path) for name in WAYS}
    of_meta, of_timm, of_model = middle["zoo"] / middle["meta"], middle["zoo"] / middle["timm"], peaks["zoo"] / size
    print(f"{arch}, {size / 1e6:,.0f} MB")
    print("  time   " + ", ".join(f"{name} {found * 1e3:,.0f} ms" for name, found in middle.items()))
    print("  peak   " + ", ".join(f"{name} {found / size:.2f} × the model" for name, found in peaks.items()))
    print(f"  zoo    {of_meta:.2f} × meta (bar {OF_META}), {of_timm:.2f} × timm (bar {OF_TIMM}), peak bar {OF_MODEL}")
    return of_meta <= OF_META and of_timm <= OF_TIMM and of_model <= OF_MODEL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", nargs=3, metavar=("WAY", "ARCH", "FILE"))
    chosen = parser.parse_args().alone
    if chosen:
        return alone(chosen[0], chosen[1], Path(chosen[2]))
    print(describe())
    with TemporaryDirectory() as folder:
        met = [measure(arch, Path(folder)) for arch in ARCHITECTURES]
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())
