"""What is frozen stays where it is. Measured, because some optimisers move a weight at a learning rate of zero."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from zoo.errors import RunError

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksums(module: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """Return a sum of the bits of each named parameter or buffer, taken on its device; waits for it once."""
    state = module.state_dict()
    chosen = {name: _bit_sum(state[name]) for name in names}
    values = torch.stack(list(chosen.values())).tolist() if chosen else []
    return dict(zip(chosen, values, strict=True))


def check_still(module: nn.Module, before: dict[str, int], step: int) -> None:
    """Refuse a model in which something frozen is not as it was. RunError names the first such tensor."""
    for name, now in checksums(module, before).items():
        if now != before[name]:
            hint = 'leave it out of the optimiser (freeze.use = "stages" or "head"), or choose another [optim] use'
            raise RunError(f"{name} is frozen and has moved by step {step}", where="[freeze]", hint=hint)


def _bit_sum(tensor: Tensor) -> Tensor:
    bits = tensor.detach().contiguous().view(-1)
    return bits.view(_BITS[bits.element_size()]).sum(dtype=torch.int64)
