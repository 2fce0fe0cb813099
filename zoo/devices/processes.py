"""What strategies of several processes have in common: how tensors and plain values travel, and how they stay alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.devices.meeting import join
from zoo.devices.single import Single, choose_devices
from zoo.devices.world import World, find_world, share_cores
from zoo.errors import DeviceError
from zoo.registry.builtin.devices import ProcessesOptions
from zoo.registry.contracts import DeviceSettings

ALONE = World(0, 1, 0, 1)


def own_device(settings: DeviceSettings, world: World) -> torch.device:
    """Return the device of this process. DeviceError: there is none for it, or not as many processes as devices."""
    found, wanted = choose_devices(settings), settings.devices
    if wanted != "auto" and len(found) != world.local_size:
        what = f"devices = {list(wanted) if isinstance(wanted, tuple) else wanted} is {len(found)} processes here"
        hint = 'leave it "auto" under torchrun or srun'
        raise DeviceError(f"{what}, and {world.local_size} were started", "device.devices", hint)
    if world.size > 1 and found[0].type not in ("cuda", "cpu"):
        raise DeviceError(
            f"several processes need GPUs or CPUs, not {found[0].type}", "device.device", 'set it to "cpu"'
        )
    if len(found) == 1:  # a CPU for all; or Slurm shows each process the one GPU that is its own
        return found[0]
    if world.local_rank >= len(found):
        what = f"{world.local_size} processes were started here, and there are {len(found)} GPUs"
        raise DeviceError(what, "device.devices", "start as many as there are GPUs")
    return found[world.local_rank]


def count_processes(settings: DeviceSettings) -> int:
    """Return how many processes this machine is to have: as `devices` says, or one for each GPU; one on a CPU.

    DeviceError: there are not as many GPUs.
    """
    return len(choose_devices(settings))


class Processes(Single):
    """One process for each device. After a step all have the same parameters and buffers."""

    def __init__(self, options: ProcessesOptions, settings: DeviceSettings) -> None:
        """Meet the other processes. DeviceError: what the settings ask for cannot be had here."""
        world = find_world() or ALONE
        super().__init__(own_device(settings, world), settings)
        if settings.sync_batchnorm and self.device.type != "cuda":
            what = f"statistics over all processes need GPUs, not {self.device.type}"
            raise DeviceError(what, "device.sync_batchnorm", "leave out the key")
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        else:
            share_cores(world)
        self.rank, self.processes = world.rank, world.size
        if world.size > 1:
            join(world, options.timeout, self.device.type == "cuda")
        self._buffers: list[Tensor] = []

    def place(self, module: nn.Module, stages: Sequence[str] = ()) -> nn.Module:
        """Return the module on the device, its batch norms over all processes where that is wanted."""
        return super().place(self._synced(module))

    def _synced(self, module: nn.Module) -> nn.Module:
        """By timm's conversion: torch's own drops the activation that timm has inside its batch norms."""
        if not self.settings.sync_batchnorm:
            return module
        converted: nn.Module = convert_sync_batchnorm(module)
        return converted

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module itself, or compiled; its buffers are kept alike from now on."""
        self._buffers = list(module.buffers())
        return self._compiled(module)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients, which wrappers average over the processes and zoo sums."""
        super().backward(loss * self.processes)

    def step(self, optimizer: Optimizer, clip_norm: float | None) -> None:
        """Step, and give every process the buffers of rank 0: each normalises its own images."""
        super().step(optimizer, clip_norm)
        if self.processes > 1:
            for buffers in _alike(self._buffers):
                flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
                dist.broadcast(flat, 0)
                for buffer, new in zip(buffers, torch.split(flat, [buffer.numel() for buffer in buffers]), strict=True):
                    buffer.copy_(new.view_as(buffer))

    def reduce(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.processes == 1:
            return tensor
        found = tensor.clone()
        dist.all_reduce(found)
        return found

    def collect(self, tensor: Tensor) -> Tensor:
        """Return the rows of all processes; they travel in one shape, and say before how many count."""
        if self.processes == 1:
            return tensor
        counts = [int(n) for n in self.total([len(tensor) * (rank == self.rank) for rank in range(self.processes)])]
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        found = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(found, padded)
        return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)])

    def total(self, values: Sequence[float]) -> list[float]:
        """Return the sums, by gloo."""
        found = torch.tensor(values, dtype=torch.float64)
        if self.processes > 1:
            dist.all_reduce(found)
        sums: list[float] = found.tolist()
        return sums

    def gather(self, value: Any) -> Sequence[Any]:
        """Return every process's value."""
        values: list[Any] = [value] * self.processes
        if self.processes > 1:
            dist.all_gather_object(values, value)
        return values

    def close(self) -> None:
        """Wait for the others, and leave."""
        if self.processes > 1 and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()


def _alike(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return the tensors, those of one type together: they travel in one piece."""
    kinds: Mapping[torch.dtype, list[Tensor]] = {tensor.dtype: [] for tensor in tensors}
    for tensor in tensors:
        kinds[tensor.dtype].append(tensor)
    return list(kinds.values())
