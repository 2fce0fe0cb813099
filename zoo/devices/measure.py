"""Find the fast settings by measuring them: what is fast on one machine or network is slow on the next."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.devices.single import Single, find_device
from zoo.registry.contracts import DeviceSettings

ROUNDS = 3
"""Each times every candidate once, after a round that is not counted; the best of a candidate's times is taken, because
other work on the machine only ever makes one slower."""

SHARE = 0.05
"""Of a run's images, the most that are computed for measuring: a short run has less to gain, and gets fewer rounds."""

GAIN = 1.1
"""A setting further from plain fp32 is taken only when it is this much faster: less is noise."""

Loss = Callable[[Tensor], Tensor]
"""From images (B, 3, H, W) to a loss ()."""


@dataclass(frozen=True)
class Measured:
    """What was chosen, and the images per second of every candidate."""

    settings: DeviceSettings
    rates: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return ", ".join(f"{name} {rate:.0f}" for name, rate in self.rates)


def describe(settings: DeviceSettings) -> str:
    """Return the settings in a few words, such as "bf16 channels_last"."""
    return settings.precision + (" channels_last" if settings.channels_last else "")


def is_open(settings: DeviceSettings) -> bool:
    """Return whether something is left to measure."""
    return "auto" in (settings.precision, settings.channels_last)


def choose_settings(settings: DeviceSettings, module: nn.Module, loss: Loss, images: Tensor, work: int) -> Measured:
    """Resolve every "auto" of `settings` by timing a training step of `module` on `images` (B, 3, H, W, float32).

    `work` is how many images the run will compute. The module, its buffers and the random state are left bit for bit as
    they were; its memory format may change.
    """
    candidates = _candidates(settings)
    count = 1 + count_rounds(work, len(candidates) * len(images))
    with _unchanged(module):
        rounds = [[_rate(candidate, module, loss, images) for candidate in candidates] for _ in range(count)]
    rates = [max(column) for column in zip(*rounds[1:], strict=True)]
    best = 0
    for index, rate in enumerate(rates):
        best = index if rate > GAIN * rates[best] else best
    named = zip((describe(candidate) for candidate in candidates), rates, strict=True)
    return Measured(candidates[best], tuple(named))


def count_rounds(work: int, each: int) -> int:
    """Return how many rounds of `each` images count, from 1 to `ROUNDS`, for a run of `work` images."""
    return max(1, min(ROUNDS, int(SHARE * work) // each - 1))


def _candidates(settings: DeviceSettings) -> list[DeviceSettings]:
    precisions: list[Literal["fp32", "bf16", "fp16"]] = ["fp32", "bf16"]
    if settings.precision != "auto":
        precisions = [settings.precision]
    elif not _has_bf16(find_device(settings.device)):
        precisions = ["fp32"]
    formats = [False, True] if settings.channels_last == "auto" else [settings.channels_last]
    return [replace(settings, precision=p, channels_last=f) for p in precisions for f in formats]


def _has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 itself; emulated bf16 is never faster."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def _rate(settings: DeviceSettings, module: nn.Module, loss: Loss, images: Tensor) -> float:
    """Images per second of one forward and backward."""
    strategy = Single(find_device(settings.device), settings)
    strategy.place(module)
    images = strategy.send(images)
    _wait(strategy.device)
    started = perf_counter()
    with strategy.autocast():
        value = loss(images)
    value.backward()  # type: ignore[no-untyped-call]
    _wait(strategy.device)
    seconds = perf_counter() - started
    module.zero_grad(set_to_none=True)
    return len(images) / seconds


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Give back buffers (batch-norm statistics) and random state as they were."""
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        yield
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(kept[name])
