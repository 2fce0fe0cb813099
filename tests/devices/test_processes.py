"""One process for each device: which device is whose, and what travels between two real ones."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from tests.devices.together import together
from tests.train.tiny import SETTINGS, make_backbone, make_loop, make_model, stages
from zoo.devices.ddp import DDP
from zoo.devices.ddp import build as ddp
from zoo.devices.fsdp import build as fsdp
from zoo.devices.meeting import find_silent, is_of_collectives
from zoo.devices.processes import Processes, count_processes, own_device
from zoo.devices.single import build as single
from zoo.devices.world import World
from zoo.errors import DeviceError
from zoo.registry.builtin.devices import ProcessesOptions
from zoo.registry.contracts import DeviceSettings, Strategy
from zoo.registry.parts import NoOptions
from zoo.shards import is_sharded, load_whole, local, shard_like, whole, whole_state

OPTIONS = ProcessesOptions(timeout=60)
BUILD = {"ddp": ddp, "fsdp": fsdp}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make it look as if so many GPUs were here."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this a process that nothing launched as one of several."""
    for name in ("RANK", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("here", "device", "devices", "count"),
    [
        (0, "auto", "auto", 1),
        (0, "auto", 3, 3),
        (0, "cpu", 2, 2),
        (1, "auto", "auto", 1),
        (3, "auto", "auto", 3),
        (3, "cuda", "auto", 3),
        (3, "cuda", 2, 2),
        (3, "auto", (2, 0), 2),
        (3, "cpu", "auto", 1),
        (3, "cpu", 5, 5),
        (3, "cuda:1", "auto", 1),
    ],
)
def test_how_many_processes(gpus: Callable[[int], None], here: int, device: str, devices: Any, count: int) -> None:
    gpus(here)
    assert count_processes(DeviceSettings(device=device, devices=devices)) == count


@pytest.mark.parametrize(
    ("here", "devices", "text"),
    [
        (
            2,
            (0, 5),
            "devices = [0, 5]: cuda:5 is not here\n  where: device.devices\n  mend:  here are cuda:0, cuda:1, cpu",
        ),
        (
            2,
            4,
            "devices = 4: cuda:2, cuda:3 are not here\n  where: device.devices\n  mend:  here are cuda:0, cuda:1, cpu",
        ),
        (
            0,
            (0, 1),
            "devices = [0, 1] are GPUs, and device = 'auto' is cpu\n  where: device.devices\n"
            "  mend:  say how many processes instead",
        ),
    ],
)
def test_more_processes_than_gpus(gpus: Callable[[int], None], here: int, devices: Any, text: str) -> None:
    gpus(here)
    with pytest.raises(DeviceError) as caught:
        count_processes(DeviceSettings(devices=devices))
    assert str(caught.value) == text


def test_one_gpu_is_not_several(gpus: Callable[[int], None]) -> None:
    gpus(3)
    with pytest.raises(DeviceError) as caught:
        count_processes(DeviceSettings(device="cuda:2", devices=2))
    assert str(caught.value) == (
        "device = 'cuda:2' is one GPU, and devices = 2\n  where: device.devices\n  mend:  set device = \"cuda\""
    )


@pytest.mark.parametrize(
    ("device", "devices", "world", "own"),
    [
        ("auto", "auto", World(0, 1, 0, 1), "cuda:0"),
        ("auto", "auto", World(5, 6, 1, 2), "cuda:1"),
        ("cuda", 2, World(4, 6, 0, 2), "cuda:0"),
        ("auto", (2, 0), World(0, 2, 0, 2), "cuda:2"),
        ("auto", (2, 0), World(1, 2, 1, 2), "cuda:0"),
        ("auto", (2,), World(3, 4, 0, 1), "cuda:2"),
        ("cuda:2", "auto", World(0, 1, 0, 1), "cuda:2"),
        ("cuda:2", 1, World(0, 2, 0, 1), "cuda:2"),
        ("cpu", 4, World(3, 4, 3, 4), "cpu"),
        ("cpu", "auto", World(3, 4, 3, 4), "cpu"),
    ],
)
def test_whose_device_is_which(gpus: Callable[[int], None], device: str, devices: Any, world: World, own: str) -> None:
    gpus(3)
    assert own_device(DeviceSettings(device=device, devices=devices), world) == torch.device(own)


@pytest.mark.parametrize(
    ("devices", "world", "text"),
    [
        (3, World(0, 2, 0, 2), "devices = 3 is 3 processes here, and 2 were started"),
        (2, World(0, 1, 0, 1), "devices = 2 is 2 processes here, and 1 were started"),
        (2, World(0, 2, 0, 1), "devices = 2 is 2 processes here, and 1 were started"),
        ((0, 1), World(0, 3, 0, 3), "devices = [0, 1] is 2 processes here, and 3 were started"),
    ],
)
def test_not_as_many_as_were_started(gpus: Callable[[int], None], devices: Any, world: World, text: str) -> None:
    gpus(3)
    with pytest.raises(DeviceError) as caught:
        own_device(DeviceSettings(devices=devices), world)
    assert str(caught.value) == (f'{text}\n  where: device.devices\n  mend:  leave it "auto" under torchrun or srun')


def test_more_were_started_than_there_are_gpus(gpus: Callable[[int], None]) -> None:
    gpus(2)
    with pytest.raises(DeviceError) as caught:
        own_device(DeviceSettings(), World(2, 3, 2, 3))
    assert str(caught.value) == (
        "3 processes were started here, and there are 2 GPUs\n"
        "  where: device.devices\n"
        "  mend:  start as many as there are GPUs"
    )


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", BUILD)
def test_statistics_over_all_processes_need_gpus(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        BUILD[name](OPTIONS, DeviceSettings(device="cpu", sync_batchnorm=True))
    assert str(caught.value) == (
        "statistics over all processes need GPUs, not cpu\n  where: device.sync_batchnorm\n  mend:  leave out the key"
    )


@pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "test_byobnet"])
def test_a_shared_batch_norm_computes_what_the_network_has(arch: str) -> None:
    """timm's batch norms hold an activation: torch's own conversion loses it."""
    strategy = DDP(OPTIONS, SETTINGS)
    strategy.settings = replace(SETTINGS, sync_batchnorm=True)
    model = make_model(make_backbone(arch)).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)["main"]
    placed = strategy.place(model).eval()
    assert any(isinstance(module, nn.SyncBatchNorm) for module in placed.modules())
    torch.testing.assert_close(placed(images)["main"], expected)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", BUILD)
def test_a_single_process_meets_nobody(name: str) -> None:
    strategy, backbone = BUILD[name](OPTIONS, SETTINGS), make_backbone()
    model = make_model(backbone)
    assert not dist.is_initialized()
    assert (strategy.rank, strategy.processes, strategy.is_main) == (0, 1, True)
    assert strategy.place(model, stages(backbone)) is model
    assert strategy.wrap(model) is model
    assert not any(map(is_sharded, model.state_dict().values()))
    rows = torch.randn(3, 2)
    assert strategy.reduce(rows) is strategy.collect(rows) is rows
    assert strategy.total([1.5, 2]) == [1.5, 2]
    assert strategy.gather("a") == ["a"]
    with strategy.micro(last=False):
        strategy.backward(model(torch.zeros(2, 3, 32, 32))["main"].sum())
    assert all(parameter.grad is not None for parameter in model.parameters())
    strategy.close()


def test_whose_error_it_is() -> None:
    assert is_of_collectives(dist.DistBackendError("of NCCL"))
    assert is_of_collectives(RuntimeError("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
    assert not is_of_collectives(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


# Two real processes. What they find is judged here: they only report.


def exchanged(strategy: Processes) -> dict[str, Any]:
    rank = strategy.rank
    tensor = torch.tensor([1.0, 10.0 * rank])
    uneven = torch.arange(3).view(3, 1) + 10 if rank == 0 else torch.empty(0, 1, dtype=torch.long)
    return {
        "ranks": (strategy.rank, strategy.processes, strategy.is_main),
        "reduced": strategy.reduce(tensor).tolist(),
        "left alone": tensor.tolist(),
        "3 and 0 rows": strategy.collect(uneven).tolist(),
        "1 and 2 rows": strategy.collect(torch.full((rank + 1, 2, 1), float(rank))).tolist(),
        "no rows": list(strategy.collect(torch.empty(0, 4)).shape),
        "classes": strategy.collect(torch.tensor([rank == 1])).tolist(),
        "total": strategy.total([1, 0.1 + rank, 2.0**40 + rank]),
        "gathered": list(strategy.gather({"rank": rank})),
        "silent": find_silent(rank, 2, 5),
    }


def cloned(tensors: Any) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def stepped(folder: Path, strategy: Processes) -> list[dict[str, Any]]:
    """Each step of an epoch: buffers before and after it, and parameters after it."""
    loop = make_loop(folder, strategy=strategy)
    model = loop.job.model.train()
    loop._enter(loop.job.phases[0])
    found = []
    for part in loop.job.train.epoch(0):
        loop._gradients(part, int(strategy.total([part.own])[0]))
        step: dict[str, Any] = {"own buffers": cloned(model.buffers()), "before": cloned(model.parameters())}
        strategy.step(loop.job.optimizer, None)
        found.append({**step, "buffers": cloned(model.buffers()), "after": cloned(model.parameters())})
    return found


class Viewing(nn.Module):
    """Its children return views, on which an operation in place follows."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)))
        self.other = nn.Linear(6, 2)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.other(self.one(images).relu_().flatten(1))
        return found


def viewed(strategy: Strategy) -> tuple[list[Tensor], list[str]]:
    """Gradients of the same batch in every process, and what was warned of."""
    torch.manual_seed(0)
    module = Viewing()
    images = torch.randn(3, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        strategy.wrap(strategy.place(module))
        strategy.backward(module(images).square().sum() / strategy.processes)
    grads = [whole(parameter.grad) for parameter in module.parameters() if parameter.grad is not None]
    return grads, [str(warning.message) for warning in caught]


def refused(module: nn.Module, state: dict[str, Tensor]) -> str:
    with suppress(RuntimeError):
        load_whole(module, state)
        return "nothing"
    return "RuntimeError"


def sharded(strategy: Strategy) -> dict[str, Any]:
    plain = make_model(make_backbone("test_vit"))
    kept = {name: value.clone() for name, value in plain.state_dict().items()}
    backbone = make_backbone("test_vit")
    model = make_model(backbone)
    strategy.place(model, stages(backbone))
    state = model.state_dict()
    again = {name: shard_like(value, state[name]) for name, value in kept.items()}
    found: dict[str, Any] = {
        "stages": stages(backbone),
        "kept": kept,
        "parameters": {name: type(value) is not nn.Parameter for name, value in model.named_parameters()},
        "sharded": {name: (isinstance(value, DTensor), is_sharded(value)) for name, value in state.items()},
        "local": {name: local(value).clone() for name, value in state.items()},
        "whole": {name: value.clone() for name, value in whole_state(state).items()},
        "again": {name: isinstance(value, DTensor) and local(value).clone() for name, value in again.items()},
        "whole again": whole_state(again),
        "own": {name: local(shard_like(torch.full_like(kept[name], strategy.rank), state[name])) for name in kept},
    }
    new = {name: torch.randn(value.shape, generator=torch.Generator().manual_seed(3)) for name, value in kept.items()}
    load_whole(model, new)
    found["new"], found["loaded"] = new, {name: value.clone() for name, value in whole_state(state).items()}
    found["short"] = refused(model, dict(list(new.items())[1:]))
    found["another name"] = refused(model, {**new, "no.such": torch.zeros(2)})
    found["another shape"] = refused(model, {**new, "backbone.cls_token": torch.zeros(1, 2, 64)})
    return found


def found_by(folder: Path) -> dict[str, Any]:
    by_ddp, by_fsdp = ddp(OPTIONS, SETTINGS), fsdp(OPTIONS, SETTINGS)
    wrapped = by_ddp.wrap(by_ddp.place(make_model()))
    found: dict[str, Any] = {
        "wrapped": type(wrapped) is DistributedDataParallel,
        "exchanged": exchanged(by_ddp),
        "stepped": stepped(folder, by_ddp),
        "sharded": sharded(by_fsdp),
        "viewed": viewed(by_fsdp),
        "threads": torch.get_num_threads(),
    }
    by_ddp.close()
    found["left"] = not dist.is_initialized()
    by_fsdp.close()  # there is nothing to leave any more
    return found


def check_exchanged(found: Sequence[dict[str, Any]]) -> None:
    for rank, one in enumerate(found):
        assert one == {
            "ranks": (rank, 2, rank == 0),
            "reduced": [2.0, 10.0],
            "left alone": [1.0, 10.0 * rank],
            "3 and 0 rows": [[10], [11], [12]],
            "1 and 2 rows": [[[0.0], [0.0]], [[1.0], [1.0]], [[1.0], [1.0]]],
            "no rows": [0, 4],
            "classes": [False, True],
            "total": [2.0, 1.2000000000000002, 2.0**41 + 1],
            "gathered": [{"rank": 0}, {"rank": 1}],
            "silent": [],
        }


def alike(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def check_stepped(main: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert len(main) == len(other) == 3
    for one, two in zip(main, other, strict=True):
        assert not alike(one["own buffers"], two["own buffers"])  # each has seen its own images
        assert alike(one["buffers"], one["own buffers"])
        assert alike(two["buffers"], one["own buffers"])
        assert alike(one["before"], two["before"])
        assert alike(one["after"], two["after"])
        assert not alike(one["before"], one["after"])


def check_sharded(found: Sequence[dict[str, Any]]) -> None:
    kept = found[0]["kept"]
    assert "backbone.cls_token" in found[0]["stages"]  # a parameter, no module
    for rank, one in enumerate(found):
        assert all(one["parameters"].values())
        assert set(one["sharded"].values()) == {(True, True)}
        for name, value in kept.items():
            part = value.chunk(2)[rank] if rank < len(value.chunk(2)) else value[:0]
            assert torch.equal(one["local"][name], part), name
            assert torch.equal(one["again"][name], part), name
            assert torch.equal(one["own"][name], torch.full_like(part, rank)), name  # nothing travels
            assert torch.equal(one["whole"][name], value), name
            assert torch.equal(one["whole again"][name], value), name
            assert torch.equal(one["loaded"][name], one["new"][name]), name
            assert not torch.equal(one["new"][name], value), name
        assert {one[what] for what in ("short", "another name", "another shape")} == {"RuntimeError"}


@pytest.mark.slow
def test_what_two_processes_exchange(tmp_path: Path) -> None:
    found = together(tmp_path / "together", 2, found_by, tmp_path / "run")
    for one in found:
        assert (one["wrapped"], one["left"], one["threads"]) == (True, True, 1)
    check_exchanged([one["exchanged"] for one in found])
    check_stepped(*(one["stepped"] for one in found))
    check_sharded([one["sharded"] for one in found])
    expected, _ = viewed(single(NoOptions(), SETTINGS))
    assert len(expected) == 4
    for one in found:
        grads, warned = one["viewed"]
        assert warned == []
        assert alike(grads, expected)


# Two GPUs.


class Normed(nn.Module):
    """Two batch norms with a convolution between."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layers(images)
        return found


IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7).view(6, 1, 1, 1)


def normed(strategy: Strategy) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients and running statistics of a batch, of which each process has its part."""
    torch.manual_seed(0)
    module = strategy.place(Normed()).train()
    images = strategy.send(IMAGES.tensor_split(strategy.processes)[strategy.rank])
    with strategy.micro(last=True):
        strategy.backward(strategy.wrap(module)(images).square().flatten(1).mean(1).mul(images[:, 0, 0, 0]).sum() / 6)
    grads = [whole(parameter.grad).cpu() for parameter in module.parameters() if parameter.grad is not None]
    return grads, [buffer.cpu() for buffer in module.buffers()]


def on_gpus(name: str) -> dict[str, Any]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    settings = DeviceSettings(device="cuda", precision="fp32", channels_last=False)
    strategy = BUILD[name](OPTIONS, settings)
    synced = BUILD[name](OPTIONS, DeviceSettings("cuda", "fp32", False, sync_batchnorm=True))
    model = strategy.place(make_model(make_backbone("test_vit")))
    wrapped = strategy.wrap(model)
    images = strategy.send(VIT_IMAGES.tensor_split(2)[strategy.rank])
    with strategy.micro(last=True):
        strategy.backward(wrapped(images)["main"].square().sum() / len(VIT_IMAGES))
    found = {
        "device": str(strategy.device),
        "backend": dist.get_backend(),
        "grads": [whole(parameter.grad).cpu() for parameter in model.parameters() if parameter.grad is not None],
        "synced": normed(synced),
        "own": normed(strategy)[1],
        "reduced": strategy.reduce(torch.ones(2, device="cuda")).tolist(),
        "rows": strategy.collect(torch.full((3 * strategy.rank, 1), 7, device="cuda")).tolist(),
        "total": strategy.total([strategy.rank]),
    }
    strategy.close()
    return found


VIT_IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two processes that meet by nccl need two GPUs")
@pytest.mark.parametrize("name", BUILD)
def test_two_gpus_compute_what_one_device_does(tmp_path: Path, name: str) -> None:
    one = single(NoOptions(), SETTINGS)
    model = make_model(make_backbone("test_vit"))
    one.backward(model(VIT_IMAGES)["main"].square().sum() / len(VIT_IMAGES))
    expected = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    grads, statistics = normed(one)
    for rank, found in enumerate(together(tmp_path, 2, on_gpus, name)):
        assert found["device"] == f"cuda:{rank}"
        assert "nccl" in found["backend"]
        torch.testing.assert_close(found["grads"], expected, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(found["synced"], (grads, statistics), rtol=1e-3, atol=1e-5)
        assert not torch.allclose(found["own"][0], statistics[0], rtol=1e-2)  # unless they are shared
        assert (found["reduced"], found["rows"], found["total"]) == ([2.0, 2.0], [[7], [7], [7]], [1.0])
