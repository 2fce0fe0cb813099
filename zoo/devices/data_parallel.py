"""nn.DataParallel: one process, a batch split over several GPUs. The first of them holds the model and the loss."""

import torch
from torch import nn

from zoo.devices.single import Single, available, check_alone, find_device
from zoo.errors import DeviceError
from zoo.registry.contracts import DeviceSettings
from zoo.registry.parts import NoOptions


def build(_: NoOptions, settings: DeviceSettings) -> "DataParallel":
    """Return the strategy. DeviceError: a GPU that `devices` names is not here, or several CPUs are wanted."""
    check_alone(settings)
    return DataParallel(find_gpus(settings), settings)


def find_gpus(settings: DeviceSettings) -> list[torch.device]:
    """Return the devices: those that `devices` names, the first so many, or all; the CPU where there are no GPUs."""
    first = find_device(settings.device)
    wanted = settings.devices
    if first.type != "cuda":
        if wanted not in ("auto", 1):
            what = f"'data-parallel' splits a batch over GPUs, and {settings.device!r} is {first.type}"
            raise DeviceError(what, "device.devices", 'leave it "auto", or use "ddp" for several processes')
        return [first]
    if isinstance(wanted, tuple):
        return [find_device(f"cuda:{number}") for number in wanted]
    count = wanted if isinstance(wanted, int) else sum(name.startswith("cuda") for name in available())
    return [find_device(f"cuda:{number}") for number in range(count)]


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
