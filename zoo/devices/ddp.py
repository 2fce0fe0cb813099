"""DistributedDataParallel: a process for each device, each with the whole model; gradients are summed as they come."""

from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from zoo.devices.processes import Processes
from zoo.registry.builtin.devices import ProcessesOptions
from zoo.registry.contracts import DeviceSettings

SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel).parameters
)
"""The key of a wrapper for giving every process rank 0's buffers at each forward; torch 2.14 renamed it."""


def build(options: ProcessesOptions, settings: DeviceSettings) -> "DDP":
    """Return the strategy, after meeting the other processes. DeviceError: see `Processes`."""
    return DDP(options, settings)


class DDP(Processes):
    """Wraps what trains anew in every phase: a wrapper knows which parameters have gradients when it is made."""

    _wrapper: DistributedDataParallel | None = None

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module wrapped, or itself where there is one process; and compiled."""
        if self.processes == 1:
            return super().wrap(module)
        self._wrapper = None  # its hooks go before there are new ones
        self._buffers = list(module.buffers())
        keys: dict[str, Any] = {"device_ids": [self.device] if self.device.type == "cuda" else None}
        keys[SYNC_BUFFERS] = False  # `step` does that, so that they are alike wherever the run is looked at
        self._wrapper = DistributedDataParallel(module, gradient_as_bucket_view=True, **keys)
        return self._compiled(self._wrapper)

    def micro(self, last: bool) -> AbstractContextManager[Any]:
        """Return a context in which gradients stay here, unless it is the last of the step."""
        if last or self._wrapper is None:
            return nullcontext()
        quiet: AbstractContextManager[Any] = self._wrapper.no_sync()
        return quiet
