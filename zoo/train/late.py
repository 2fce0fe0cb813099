"""Read numbers from a device without ever waiting for it: the copy is started now and looked at when it has arrived."""

from collections import deque
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from zoo.errors import RunError
from zoo.shards import local

HINT = 'lower optim.lr, set run.clip_norm, or set device.precision = "fp32"'


@dataclass(frozen=True)
class _Copy:
    step: int
    value: Tensor
    arrived: torch.Event | None

    def is_here(self) -> bool:
        return self.arrived is None or self.arrived.query()


class LateLoss:
    """The loss of each step, known a few steps later on an asynchronous device and at once on a CPU.

    `newest` is the last loss known. Each is checked as it arrives: RunError names the step of the first that is
    not finite.
    """

    def __init__(self) -> None:
        self.newest: float | None = None
        self._copies: deque[_Copy] = deque()

    def put(self, step: int, loss: Tensor) -> None:
        """Start copying the loss () of `step`, and take in those that have arrived. Does not wait."""
        self._copies.append(_start(step, loss))
        while self._copies and self._copies[0].is_here():
            self._take(self._copies.popleft())

    def drain(self) -> None:
        """Wait for every loss put so far."""
        while self._copies:
            copy = self._copies.popleft()
            if copy.arrived is not None:
                copy.arrived.synchronize()
            self._take(copy)

    def _take(self, copy: _Copy) -> None:
        self.newest = float(copy.value)
        if not isfinite(self.newest):
            raise RunError(f"the loss is {self.newest} at step {copy.step}", hint=HINT)


def check_finite(module: nn.Module, step: int) -> None:
    """Refuse to keep parameters that are not finite; a loss shows it one step later. Waits for the device.

    RunError names the first such parameter.
    """
    for name, parameter in module.named_parameters():
        if not local(parameter).isfinite().all():
            raise RunError(f"{name} is not finite after step {step}", hint=HINT)


def _start(step: int, loss: Tensor) -> _Copy:
    if loss.device.type == "cpu":
        return _Copy(step, loss, None)
    here = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=loss.device.type == "cuda")
    here.copy_(loss, non_blocking=True)
    arrived = torch.Event(device=loss.device)
    arrived.record()
    return _Copy(step, here, arrived)
