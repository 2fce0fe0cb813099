"""One device: cuda, mps or cpu."""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from zoo.errors import DeviceError, nearest
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
        hint = f'here {"is" if len(here) == 1 else "are"} {", ".join(here)}{_renumbered()}; or leave device = "auto"'
        raise DeviceError(f"device {name!r} is not here", where="device.device", hint=hint)
    return torch.device(wanted)


def _renumbered() -> str:
    """How CUDA_VISIBLE_DEVICES counts the GPUs that are here."""
    seen, here = os.environ.get("CUDA_VISIBLE_DEVICES", ""), available()
    pairs = [f"cuda:{place} is GPU {name.strip()}" for place, name in enumerate(seen.split(","))]
    shown = [pair for pair in pairs if pair.split()[0] in here]
    return f" (CUDA_VISIBLE_DEVICES={seen}: {', '.join(shown)})" if seen and shown else ""


def choose_devices(settings: DeviceSettings) -> list[torch.device]:
    """Return the devices that `device` and `devices` name: every GPU for "auto", or one of another kind.

    Another kind is there as often as `devices` says. DeviceError: a GPU is not here, or the two keys contradict.
    """
    first, wanted = find_device(settings.device), settings.devices
    shown = list(wanted) if isinstance(wanted, tuple) else wanted
    if first.type != "cuda":
        if isinstance(wanted, tuple):
            what = f"devices = {shown} are GPUs, and device = {settings.device!r} is {first.type}"
            raise DeviceError(what, "device.devices", "say how many processes instead")
        return [first] * (1 if wanted == "auto" else wanted)
    if ":" in settings.device:
        if wanted not in ("auto", 1):
            what = f"device = {settings.device!r} is one GPU, and devices = {shown}"
            raise DeviceError(what, "device.devices", 'set device = "cuda"')
        return [first]
    count = sum(name.startswith("cuda") for name in available())
    numbers = list(wanted) if isinstance(wanted, tuple) else list(range(count if wanted == "auto" else wanted))
    missing = [f"cuda:{number}" for number in numbers if number >= count]
    if missing:
        what = f"devices = {shown}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not here"
        raise DeviceError(what, "device.devices", f"here are {', '.join(available())}{_renumbered()}")
    return [torch.device("cuda", number) for number in numbers]


def build(_: NoOptions, settings: DeviceSettings) -> "Single":
    """Return the strategy for the device that `settings` names. DeviceError: it, or the precision, is not to be had."""
    if settings.devices not in ("auto", 1):
        hint = 'name it with device.device, or take several with device.use = "ddp"'
        shown = list(settings.devices) if isinstance(settings.devices, tuple) else settings.devices
        raise DeviceError(f"'single' takes one device, not {shown}", "device.devices", hint)
    check_alone(settings)
    return Single(find_device(settings.device), settings)


def check_alone(settings: DeviceSettings) -> None:
    """Refuse what only several processes can do. DeviceError: statistics over all of them are wanted."""
    if settings.sync_batchnorm:
        hint = 'leave out the key, or use "ddp" or "fsdp"'
        raise DeviceError("there are no other processes to share statistics with", "device.sync_batchnorm", hint)


class Single:
    """The whole model on one device: nothing is wrapped and nothing is reduced."""

    rank = 0
    processes = 1

    def __init__(self, device: torch.device, settings: DeviceSettings) -> None:
        self.device = device
        self.settings = settings
        _check_precision(device, settings.precision)
        _check_backend(settings.compile)
        self._format = torch.channels_last if settings.channels_last is True else torch.contiguous_format
        self._dtype = DTYPES.get(settings.precision)
        self._scaler = GradScaler(device.type, enabled=settings.precision == "fp16")

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def place(self, module: nn.Module, stages: Sequence[str] = ()) -> nn.Module:
        """Return the module on the device, convolutions in the memory format."""
        return module.to(self.device).to(memory_format=self._format)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module itself, or compiled."""
        return self._compiled(module)

    def _compiled(self, module: nn.Module) -> nn.Module:
        """Compile each shape by itself: which kernels run is then a function of the batch, not of what came before."""
        chosen = self.settings.compile
        if chosen is False:
            return module
        torch.compiler.reset()  # what an earlier phase compiled counts towards a limit
        compiled: Any = torch.compile(module, dynamic=False, backend="inductor" if chosen is True else chosen)
        return compiled  # type: ignore[no-any-return]

    def micro(self, last: bool) -> AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return nullcontext()

    def inference(self) -> AbstractContextManager[Any]:
        """Return torch's inference mode."""
        return torch.inference_mode()

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

    def collect(self, tensor: Tensor) -> Tensor:
        """Return the tensor: there is one process."""
        return tensor

    def total(self, values: Sequence[float]) -> list[float]:
        """Return the values: there is one process."""
        return list(values)

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

    def close(self) -> None:
        """Do nothing: there is one process."""


def _check_backend(chosen: bool | str) -> None:
    if isinstance(chosen, str) and chosen not in torch.compiler.list_backends(()):
        hint = nearest(chosen, torch.compiler.list_backends())
        raise DeviceError(f"torch.compile has no backend {chosen!r}", "device.compile", f"{hint}; or true for inductor")


def _check_precision(device: torch.device, precision: str) -> None:
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise DeviceError(f"precision 'bf16' is not supported by {name}", "device.precision", 'use "fp16" or "auto"')
