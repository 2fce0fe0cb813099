"""What is frozen and moves is named, in any type and memory layout."""

import pytest
import torch
from torch import nn

from zoo.errors import RunError
from zoo.train.still import check_still, checksums


def make_module() -> nn.Module:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2).to(torch.bfloat16))
    return module.to(memory_format=torch.channels_last)


def test_what_is_as_it_was_passes() -> None:
    module = make_module()
    check_still(module, checksums(module, module.state_dict()), 1)
    check_still(module, checksums(module, ()), 1)


@pytest.mark.parametrize("name", ["0.weight", "1.running_mean", "1.num_batches_tracked", "2.bias"])
def test_a_tensor_that_moved_is_named(name: str) -> None:
    module = make_module()
    before = checksums(module, module.state_dict())
    with torch.no_grad():
        tensor = module.state_dict()[name]
        tensor[(0,) * tensor.dim()] += 1
    with pytest.raises(RunError) as caught:
        check_still(module, before, 7)
    assert str(caught.value) == (
        f"{name} is frozen and has moved by step 7\n  where: [freeze]\n"
        '  mend:  leave it out of the optimiser (freeze.use = "stages" or "head"), or choose another [optim] use'
    )
