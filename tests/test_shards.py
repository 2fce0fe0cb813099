"""Plain tensors pass through; a shard of the only process is the whole. Two processes: tests/devices."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from zoo.shards import is_sharded, load_whole, local, shard_like, whole, whole_state


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """A mesh of one process: this one."""
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


PLAIN = {
    "a tensor": torch.arange(6.0).view(2, 3),
    "a parameter": nn.Parameter(torch.arange(6.0).view(2, 3)),
    "a buffer": nn.Buffer(torch.arange(6.0).view(2, 3)),
}


@pytest.mark.parametrize("tensor", PLAIN.values(), ids=PLAIN)
def test_plain_tensors_pass_through(tensor: torch.Tensor) -> None:
    value = torch.ones(2, 3)
    assert not is_sharded(tensor)
    assert shard_like(value, tensor) is value
    for found in (whole(tensor), local(tensor), whole_state({"a": tensor})["a"]):
        assert found.data_ptr() == tensor.data_ptr()
        assert not found.requires_grad


def test_a_plain_tensor_imports_no_dtensor() -> None:
    asked = (
        "import sys, torch; from zoo.shards import is_sharded; names = set(sys.modules);"
        "assert not is_sharded(torch.ones(2)) and not is_sharded(torch.nn.Parameter(torch.ones(2)));"
        "print(sorted(set(sys.modules) - names), 'torch.distributed.tensor' in names)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"


@pytest.mark.parametrize("placement", [Shard(0), Shard(1), Replicate()])
def test_a_sharded_tensor(mesh: DeviceMesh, placement: Shard | Replicate) -> None:
    value = torch.randn(4, 3)
    parameter = nn.Parameter(distribute_tensor(value.clone(), mesh, [placement]))
    assert is_sharded(parameter)
    assert is_sharded(parameter.detach())
    again = shard_like(value, parameter)
    assert isinstance(again, DTensor)
    assert (again.device_mesh, again.placements) == (mesh, (placement,))
    for tensor in (parameter, again):
        for found in (whole(tensor), local(tensor), whole_state({"a": tensor})["a"]):
            assert type(found) is torch.Tensor
            assert torch.equal(found, value)
            assert not found.requires_grad


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    for name, parameter in list(module.named_parameters(recurse=False)):
        module.register_parameter(name, nn.Parameter(distribute_tensor(parameter.detach(), mesh, [Shard(0)])))


@pytest.mark.parametrize("sharded", [False, True])
def test_a_whole_state_is_loaded_in_place(mesh: DeviceMesh, sharded: bool) -> None:
    module = nn.Linear(3, 4)
    if sharded:
        shard(module, mesh)
    parameters, state = list(module.parameters()), {"weight": torch.randn(4, 3), "bias": torch.randn(4)}
    load_whole(module, state)
    assert all(one is other for one, other in zip(module.parameters(), parameters, strict=True))
    assert [is_sharded(parameter) for parameter in parameters] == [sharded] * 2
    assert all(parameter.requires_grad for parameter in parameters)
    for name, value in whole_state(module.state_dict()).items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"weight": torch.ones(4, 3)}, 'Missing key(s) in state_dict: "bias"'),
        (
            {"weight": torch.ones(4, 3), "bias": torch.ones(4), "scale": torch.ones(4)},
            'Unexpected key(s) in state_dict: "scale"',
        ),
        ({"weight": torch.ones(4, 2), "bias": torch.ones(4)}, "size mismatch for weight"),
    ],
)
def test_names_and_shapes_are_the_modules(
    mesh: DeviceMesh, sharded: bool, state: dict[str, torch.Tensor], said: str
) -> None:
    module = nn.Linear(3, 4)
    if sharded:
        shard(module, mesh)
    with pytest.raises(RuntimeError) as caught:
        load_whole(module, state)
    assert said in str(caught.value)
