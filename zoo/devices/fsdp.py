"""fully_shard (FSDP2): a process for each device, each with a shard of every parameter, gradient and average.

A module's parameters are whole only while it computes. The boundaries follow the stages of the backbone, which is how
freeze policies cut it too, and the heads: what is frozen and what trains lie in shards of their own.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from zoo.devices.processes import Processes
from zoo.registry.builtin.devices import ProcessesOptions
from zoo.registry.contracts import DeviceSettings


def build(options: ProcessesOptions, settings: DeviceSettings) -> "FSDP":
    """Return the strategy, after meeting the other processes. DeviceError: see `Processes`."""
    return FSDP(options, settings)


class FSDP(Processes):
    """Shards a module where it is placed, so that an optimiser made afterwards holds the shards."""

    _roots: Sequence[FSDPModule] = ()

    def place(self, module: nn.Module, stages: Sequence[str] = ()) -> nn.Module:
        """Return the module sharded: each of `stages`, then each of its children, which may compute by themselves.

        fully_shard takes contiguous parameters alone: of channels_last there are only the images.
        """
        module = self._synced(module).to(self.device).to(memory_format=torch.contiguous_format)
        if self.processes == 1:
            return module
        mesh = init_device_mesh(self.device.type, (self.processes,))
        children = [child for child in module.children() if any(True for _ in child.parameters())]
        for part in [*_outermost(module, stages, children), *children]:
            part.register_forward_hook(_no_views)
            # Whole only while it computes: the parameters of a module are always the shards between steps.
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
        return module

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module itself, or compiled: `place` has sharded it."""
        self._roots = [part for part in (module, *module.children()) if isinstance(part, FSDPModule)]
        return super().wrap(module)

    def micro(self, last: bool) -> AbstractContextManager[Any]:
        """Let gradients travel in the last micro-batch of a step alone."""
        for root in self._roots:
            root.set_requires_gradient_sync(last)
        return nullcontext()

    def inference(self) -> AbstractContextManager[Any]:
        """Return a context without gradients: parameters that were whole in inference mode could never train again."""
        return torch.no_grad()


def _no_views(module: nn.Module, inputs: Any, output: Any) -> Any:
    """An operation in place on a view would drop the hook by which fully_shard prepares the backward pass."""
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def _outermost(module: nn.Module, names: Sequence[str], children: Sequence[nn.Module]) -> list[nn.Module]:
    """Return the named submodules that have parameters, but for those that are children themselves.

    A stage may be a single parameter (a class token): the child that it is of keeps it.
    """
    modules = dict(module.named_modules())
    found = dict.fromkeys(modules[name] for name in names if name in modules)
    return [part for part in found if part not in children and any(True for _ in part.parameters())]
