"""One device: which, in which precision and layout, and one step."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.train.tiny import make_model, phases_of
from zoo.devices.single import Single, available, build, find_device
from zoo.errors import DeviceError
from zoo.recipe.schema import OptimTable
from zoo.registry.contracts import DeviceSettings
from zoo.registry.parts import NoOptions
from zoo.train.optim import make_optimizer

only_cpu = pytest.mark.skipif(available() != ["cpu"], reason="a faster device is here")


def make(**settings: Any) -> Single:
    return build(NoOptions(), DeviceSettings(**{"device": "cpu", **settings}))


@only_cpu
def test_auto_is_the_cpu_where_there_is_nothing_else() -> None:
    assert find_device("auto") == torch.device("cpu")


@only_cpu
@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps"])
def test_a_device_that_is_not_here(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        find_device(name)
    assert str(caught.value) == (
        f'device {name!r} is not here\n  where: device.device\n  mend:  here is cpu; or leave device = "auto"'
    )


@pytest.mark.parametrize("name", ["cuda:2", "cuda:7"])
@pytest.mark.parametrize(
    ("visible", "counted"),
    [
        (None, ""),
        ("", ""),
        ("2,3", " (CUDA_VISIBLE_DEVICES=2,3: cuda:0 is GPU 2, cuda:1 is GPU 3)"),
        ("5, GPU-8e2", " (CUDA_VISIBLE_DEVICES=5, GPU-8e2: cuda:0 is GPU 5, cuda:1 is GPU GPU-8e2)"),
    ],
)
def test_gpus_that_are_counted_anew(
    monkeypatch: pytest.MonkeyPatch, name: str, visible: str | None, counted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(DeviceError) as caught:
        find_device(name)
    assert str(caught.value) == (
        f"device {name!r} is not here\n"
        "  where: device.device\n"
        f'  mend:  here are cuda:0, cuda:1, cpu{counted}; or leave device = "auto"'
    )
    assert find_device("auto") == find_device("cuda") == torch.device("cuda:0")
    assert find_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.gpu
def test_auto_is_the_first_gpu() -> None:
    assert find_device("auto") == find_device("cuda") == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_forward_is_in_the_precision_and_weights_stay_fp32(precision: str, dtype: torch.dtype) -> None:
    strategy, model = make(precision=precision), make_model()
    with strategy.autocast():
        logits = model(torch.randn(2, 3, 32, 32))["main"]
    assert logits.dtype == dtype
    strategy.backward(logits.float().sum())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in model.parameters() if parameter.grad is not None} == {torch.float32}


@pytest.mark.parametrize("channels_last", [True, False])
def test_model_and_images_are_in_the_memory_format(channels_last: bool) -> None:
    strategy, model = make(channels_last=channels_last), make_model()
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    strategy.place(model.to(memory_format=torch.channels_last))
    kernels = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert all(kernel.is_contiguous(memory_format=wanted) for kernel in kernels)
    assert strategy.send(torch.randn(2, 3, 8, 8)).is_contiguous(memory_format=wanted)
    assert strategy.send(torch.arange(3)).tolist() == [0, 1, 2]


def test_one_process_wraps_and_reduces_nothing() -> None:
    strategy, model, total = make(), make_model(), torch.tensor(3.0)
    assert strategy.wrap(model) is model
    assert strategy.reduce(total) is total
    assert strategy.is_main


def test_one_process_has_all_there_is() -> None:
    strategy, rows, value = make(), torch.randn(3, 2), {"a": 1}
    assert strategy.collect(rows) is rows
    assert strategy.total([1.5, 2]) == [1.5, 2]
    assert strategy.gather(value) == [value]
    assert (strategy.rank, strategy.processes) == (0, 1)
    with strategy.micro(last=False), strategy.inference():
        assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("devices", ["auto", 1])
def test_one_device_is_one_device(devices: Any) -> None:
    assert make(devices=devices).device == torch.device("cpu")


@pytest.mark.parametrize(("devices", "said"), [(2, "2"), ((0, 1), "[0, 1]")])
def test_several_devices_are_for_other_strategies(devices: Any, said: str) -> None:
    with pytest.raises(DeviceError) as caught:
        make(devices=devices)
    assert str(caught.value) == (
        f"'single' takes one device, not {said}\n"
        "  where: device.devices\n"
        '  mend:  name it with device.device, or take several with device.use = "ddp"'
    )


def test_there_are_no_statistics_to_share() -> None:
    with pytest.raises(DeviceError) as caught:
        make(sync_batchnorm=True)
    assert str(caught.value) == (
        "there are no other processes to share statistics with\n"
        "  where: device.sync_batchnorm\n"
        '  mend:  leave out the key, or use "ddp" or "fsdp"'
    )


def gradient(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_clipping_is_to_the_exact_norm(precision: str, clip: float) -> None:
    torch.manual_seed(0)
    strategy, model = make(precision=precision), nn.Linear(16, 4)
    optimizer = make_optimizer(
        OptimTable(use="sgd", lr=1.0, weight_decay=0), model, phases_of(model, {"weight": 1.0, "bias": 1.0})
    )
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss = 3 * model(torch.ones(2, 16)).sum()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)])
    strategy.backward(loss)
    strategy.step(optimizer, clip)
    change = torch.cat([(a - b).detach().flatten() for a, b in zip(before, model.parameters(), strict=True)])
    norm = min(clip, expected.norm().item())
    assert change.norm().item() == pytest.approx(norm, rel=1e-4)
    torch.testing.assert_close(change / change.norm(), expected / expected.norm())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_without_clipping_the_gradient_is_taken_whole() -> None:
    strategy, model = make(), nn.Linear(2, 1, bias=False)
    optimizer = make_optimizer(OptimTable(use="sgd", lr=0.5, weight_decay=0), model, phases_of(model, {"weight": 1.0}))
    start = model.weight.detach().clone()
    strategy.backward(model(torch.tensor([[1.0, 100.0]])).sum())
    strategy.step(optimizer, None)
    torch.testing.assert_close(start - model.weight.detach(), torch.tensor([[0.5, 50.0]]))


def test_an_infinite_gradient_under_fp16_is_left_out_and_lowers_the_scale() -> None:
    strategy, model = make(precision="fp16"), nn.Linear(2, 1)
    optimizer = make_optimizer(OptimTable(), model, phases_of(model, {"weight": 1.0, "bias": 1.0}))
    start = model.weight.detach().clone()
    strategy.backward(model(torch.tensor([[float("inf"), 1.0]])).sum())
    before = dict(strategy.state())
    strategy.step(optimizer, None)
    assert torch.equal(model.weight, start)
    assert strategy.state()["scale"] == before["scale"] / 2


def test_the_loss_scale_goes_there_and_back() -> None:
    first, second = make(precision="fp16"), make(precision="fp16")
    first.load_state({**first.state(), "scale": 128.0, "_growth_tracker": 7})
    second.load_state(first.state())
    assert second.state() == first.state()
    assert second.state()["scale"] == 128.0


def test_other_precisions_have_no_state() -> None:
    strategy = make(precision="bf16")
    assert strategy.state() == {}
    strategy.load_state({})
