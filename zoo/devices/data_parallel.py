"""nn.DataParallel: one process, a batch split over several GPUs. The first of them holds the model and the loss."""

import torch
from torch import nn

from zoo.devices.single import Single, check_alone, choose_devices
from zoo.errors import DeviceError
from zoo.registry.contracts import DeviceSettings
from zoo.registry.parts import NoOptions


def build(_: NoOptions, settings: DeviceSettings) -> "DataParallel":
    """Return the strategy. DeviceError: a GPU that `devices` names is not here, or several CPUs are wanted."""
    check_alone(settings)
    return DataParallel(find_gpus(settings), settings)


def find_gpus(settings: DeviceSettings) -> list[torch.device]:
    """Return the GPUs, or the CPU where there are none. DeviceError: see `choose_devices`; several CPUs are wanted."""
    found = choose_devices(settings)
    if found[0].type != "cuda" and len(found) > 1:
        what = f"'data-parallel' splits a batch over GPUs, and {settings.device!r} is {found[0].type}"
        raise DeviceError(what, "device.devices", 'leave it "auto", or use "ddp" for several processes')
    return found


class DataParallel(Single):
    """Copies the model to every device at each forward; inputs go to the first, logits come back to it."""

    def __init__(self, devices: list[torch.device], settings: DeviceSettings) -> None:
        super().__init__(devices[0], settings)
        self._devices = devices

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module wrapped, and compiled."""
        if self.device.type == "cpu" and torch.accelerator.is_available():
            return self._compiled(module)  # without names it would take the GPUs
        names = self._devices if self.device.type == "cuda" else None
        return self._compiled(nn.DataParallel(module, device_ids=names))
