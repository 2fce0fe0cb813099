"""Losses read late: what is known, what is refused, and that the loop itself never waits on a device."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from tests.train.tiny import make_loop, make_model
from zoo.errors import RunError
from zoo.recipe.schema import OptimTable
from zoo.registry.contracts import DeviceSettings
from zoo.train.late import LateLoss, check_finite

WAITS = ("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__")

PACKAGE = str(Path(zoo.__file__).parent)


def test_the_newest_loss_is_known_at_once_on_a_cpu() -> None:
    losses = LateLoss()
    assert losses.newest is None
    losses.put(1, torch.tensor(2.5))
    losses.put(2, torch.tensor(1.5))
    assert losses.newest == 1.5
    losses.drain()
    assert losses.newest == 1.5


@pytest.mark.parametrize(("value", "shown"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")])
def test_a_loss_that_is_not_finite_names_its_step(value: float, shown: str) -> None:
    losses = LateLoss()
    losses.put(6, torch.tensor(1.0))
    with pytest.raises(RunError) as caught:
        losses.put(7, torch.tensor(value))
    assert str(caught.value) == (
        f'the loss is {shown} at step 7\n  mend:  lower optim.lr, set run.clip_norm, or set device.precision = "fp32"'
    )


def test_parameters_that_are_not_finite() -> None:
    model = make_model()
    check_finite(model, 3)
    with torch.no_grad():
        model.head("main").linear.weight[0, 0] = float("inf")  # type: ignore[attr-defined]
    with pytest.raises(RunError) as caught:
        check_finite(model, 3)
    assert str(caught.value) == (
        "heads.main.linear.weight is not finite after step 3\n"
        '  mend:  lower optim.lr, set run.clip_norm, or set device.precision = "fp32"'
    )


def record_waits(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Note the file of zoo's that stands nearest below each call that reads a tensor's value."""
    callers: set[str] = set()

    def watch(name: str) -> None:
        original = getattr(Tensor, name)

        def method(self: Tensor, *arguments: Any, **keys: Any) -> Any:
            frame: FrameType | None = sys._getframe(1)
            while frame and not frame.f_code.co_filename.startswith(PACKAGE):
                frame = frame.f_back
            callers.add(f"{Path(frame.f_code.co_filename).name}: {name}" if frame else name)
            return original(self, *arguments, **keys)

        monkeypatch.setattr(Tensor, name, method)

    for name in WAITS:
        watch(name)
    return callers


LATE = {"late.py: __float__", "late.py: item"}
OPTIMISER = {"single.py: item", "single.py: __float__"}  # torch's AdamW reads its step count, which is on the CPU
MIXING = {"mix.py: item", "mix.py: __int__", "mix.py: __float__"}  # one draw on the CPU for the whole batch


@pytest.mark.parametrize(
    ("keys", "allowed"),
    [
        ({"accumulate": 2, "clip_norm": 1.0, "ema": 0.9}, LATE | OPTIMISER),
        ({"data": {"mixup": 0.4}}, LATE | OPTIMISER | MIXING),
        ({"optim": OptimTable(use="sgd", momentum=0.9)}, LATE),
    ],
    ids=["adamw", "mixup", "sgd"],
)
def test_no_step_waits_for_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], allowed: set[str]
) -> None:
    loop = make_loop(tmp_path, **keys)
    loop.job.model.train()
    first, second, _ = loop.job.train.epoch(0)  # decoded before: reading images reads tensors, on the CPU
    loop._step(first)  # makes the optimiser's state, and the scales of the preprocessing
    callers = record_waits(monkeypatch)
    loop._step(second)
    assert "late.py: __float__" in callers
    assert callers <= allowed


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_a_gpu(tmp_path: Path, precision: Any) -> None:
    settings = DeviceSettings(device="cuda", precision=precision, channels_last=True)
    loop = make_loop(tmp_path, settings=settings, accumulate=2, clip_norm=1.0, ema=0.9)
    loop.job.model.train()
    first, *pinned = [batch.pin_memory() for batch in loop.job.train.epoch(0)]
    loop._step(first)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in pinned:
            loop._step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    loop._losses.drain()
    assert loop._losses.newest is not None
