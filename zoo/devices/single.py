"""One device: cuda, mps or cpu."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from zoo.errors import DeviceError
from zoo.registry.contracts import DeviceSettings
from zoo.registry.parts import NoOptions

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def available() -> list[str]:
    """Return the devices that are here, the fastest kind first: "cuda:0", …, "mps", "cpu"."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def find_device(name: str) -> torch.device:
    """Return the device `name` ("auto" is the first of `available`). DeviceError: it is not here."""
    here = available()
    wanted = {"auto": here[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in here:
        hint = f'here {"is" if len(here) == 1 else "are"} {", ".join(here)}; or leave device = "auto"'
        raise DeviceError(f"device {name!r} is not here", where="device.device", hint=hint)
    return torch.device(wanted)


def build(_: NoOptions, settings: DeviceSettings) -> "Single":
    """Return the strategy for the device that `settings` names. DeviceError: it, or the precision, is not to be had."""
    return Single(find_device(settings.device), settings)


class Single:
    """The whole model on one device: nothing is wrapped and nothing is reduced."""

    is_main = True

    def __init__(self, device: torch.device, settings: DeviceSettings) -> None:
        self.device = device
        self.settings = settings
        _check_precision(device, settings.precision)
        self._format = torch.channels_last if settings.channels_last is True else torch.contiguous_format
        self._dtype = DTYPES.get(settings.precision)
        self._scaler = GradScaler(device.type, enabled=settings.precision == "fp16")

    def place(self, module: nn.Module) -> nn.Module:
        """Return the module on the device, convolutions in the memory format."""
        return module.to(self.device).to(memory_format=self._format)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module itself."""
        return module

    def send(self, tensor: Tensor) -> Tensor:
        """Return the tensor on the device; images (B, C, H, W) in the memory format."""
        if tensor.dim() != 4:
            return tensor.to(self.device, non_blocking=True)
        return tensor.to(self.device, non_blocking=True, memory_format=self._format)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the autocast context of the precision; one that does nothing for fp32."""
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype is not None)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`, scaled under fp16."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: Optimizer, clip_norm: float | None) -> None:
        """Unscale, clip, step and clear the gradients; under fp16 a step with infinite gradients is left out."""
        if clip_norm is not None:
            self._scaler.unscale_(optimizer)
            trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(trained, clip_norm)
        self._scaler.step(optimizer)
        self._scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def reduce(self, tensor: Tensor) -> Tensor:
        """Return the tensor: there is one process."""
        return tensor

    def gather(self, value: Any) -> Sequence[Any]:
        """Return the value: there is one process."""
        return [value]

    def state(self) -> Mapping[str, float | int]:
        """Return the loss scale and its growth; empty unless fp16."""
        state: dict[str, float | int] = self._scaler.state_dict()
        return state

    def load_state(self, state: Mapping[str, float | int]) -> None:
        """Take back the loss scale."""
        if state:
            self._scaler.load_state_dict(dict(state))


def _check_precision(device: torch.device, precision: str) -> None:
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise DeviceError(f"precision 'bf16' is not supported by {name}", "device.precision", 'use "fp16" or "auto"')
