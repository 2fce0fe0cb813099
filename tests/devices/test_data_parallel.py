"""nn.DataParallel: which devices it takes, and that it computes what one device does."""

from typing import Any

import pytest
import torch

from tests.train.tiny import make_backbone, make_model
from zoo.devices.data_parallel import build, find_gpus
from zoo.devices.single import build as build_single
from zoo.errors import DeviceError
from zoo.registry.contracts import DeviceSettings, Strategy
from zoo.registry.parts import NoOptions


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize(
    ("devices", "numbers"), [("auto", [0, 1, 2]), (2, [0, 1]), (1, [0]), ((2, 0), [2, 0]), ((1,), [1])]
)
def test_the_gpus_that_are_wanted(device: str, devices: Any, numbers: list[int]) -> None:
    found = find_gpus(DeviceSettings(device=device, devices=devices))
    assert found == [torch.device("cuda", number) for number in numbers]


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize(("devices", "shown", "missing"), [(4, "4", 3), ((0, 5), "[0, 5]", 5)])
def test_gpus_that_are_not_here(devices: Any, shown: str, missing: int) -> None:
    with pytest.raises(DeviceError) as caught:
        find_gpus(DeviceSettings(devices=devices))
    assert str(caught.value) == (
        f"devices = {shown}: cuda:{missing} is not here\n"
        "  where: device.devices\n"
        "  mend:  here are cuda:0, cuda:1, cuda:2, cpu"
    )


@pytest.mark.usefixtures("three_gpus")
def test_a_gpu_that_is_named_is_the_one() -> None:
    assert find_gpus(DeviceSettings(device="cuda:1")) == [torch.device("cuda:1")]


@pytest.mark.usefixtures("three_gpus")
def test_the_cpu_where_it_is_asked_for() -> None:
    assert find_gpus(DeviceSettings(device="cpu")) == find_gpus(DeviceSettings(device="cpu", devices=1))
    assert find_gpus(DeviceSettings(device="cpu")) == [torch.device("cpu")]


def test_several_on_a_cpu() -> None:
    with pytest.raises(DeviceError) as caught:
        build(NoOptions(), DeviceSettings(device="cpu", devices=2))
    assert str(caught.value) == (
        "'data-parallel' splits a batch over GPUs, and 'cpu' is cpu\n"
        "  where: device.devices\n"
        '  mend:  leave it "auto", or use "ddp" for several processes'
    )


def test_statistics_over_other_processes() -> None:
    with pytest.raises(DeviceError) as caught:
        build(NoOptions(), DeviceSettings(device="cpu", sync_batchnorm=True))
    assert str(caught.value) == (
        "there are no other processes to share statistics with\n"
        "  where: device.sync_batchnorm\n"
        '  mend:  leave out the key, or use "ddp" or "fsdp"'
    )


def computed(strategy: Strategy) -> list[torch.Tensor]:
    """Logits and gradients of a batch of five images, through a model without batch norm."""
    model = strategy.place(make_model(make_backbone("test_vit")))
    wrapped = strategy.wrap(model)
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = wrapped(strategy.send(images))["main"]
    strategy.backward(logits.square().mean())
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [logits.detach(), *gradients]


def same(settings: DeviceSettings) -> None:
    one = computed(build_single(NoOptions(), settings))
    several = computed(build(NoOptions(), settings))
    assert len(one) > 10
    for expected, found in zip(one, several, strict=True):
        assert found.device == expected.device
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_on_a_cpu_it_computes_what_one_device_does() -> None:
    same(DeviceSettings(device="cpu", precision="fp32", channels_last=False))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="splitting a batch needs two GPUs")
def test_on_two_gpus_it_computes_what_one_does() -> None:
    strategy = build(NoOptions(), DeviceSettings(device="cuda", precision="fp32", channels_last=False))
    assert type(strategy.wrap(strategy.place(make_model()))) is torch.nn.DataParallel
    same(DeviceSettings(device="cuda", precision="fp32", channels_last=False))
