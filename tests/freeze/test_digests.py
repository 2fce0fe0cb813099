"""What has moved is told, in any type and memory layout."""

import pytest
import torch
from torch import nn

from zoo.freeze.digests import digest, digests, moved, named_tensors


def make_module() -> nn.Module:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2).to(torch.bfloat16))
    module.register_buffer("hidden", torch.zeros(2), persistent=False)
    return module.to(memory_format=torch.channels_last)


def test_what_is_as_it_was_has_the_same_digest() -> None:
    module = make_module()
    assert moved(digests(module, named_tensors(module)), digests(module, named_tensors(module))) == []


@pytest.mark.parametrize("name", ["0.weight", "1.running_mean", "1.num_batches_tracked", "2.bias", "hidden"])
def test_a_tensor_that_moved_is_named(name: str) -> None:
    module = make_module()
    before = digests(module, named_tensors(module))
    with torch.no_grad():
        tensor = named_tensors(module)[name]
        tensor[(0,) * tensor.dim()] += 1
    assert moved(before, digests(module, before)) == [name]


def test_strides_do_not_count_and_the_order_of_values_does() -> None:
    tensor = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert digest(tensor) == digest(tensor.to(memory_format=torch.channels_last))
    assert digest(tensor) != digest(tensor.flip(3))
    assert digest(torch.tensor(0.0)) != digest(torch.tensor(-0.0))
