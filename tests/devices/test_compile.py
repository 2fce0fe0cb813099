"""The compiled training step: the same numbers, and a backend that torch has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.tiny import SETTINGS, make_loop
from zoo.devices.single import build
from zoo.errors import DeviceError
from zoo.freeze.thawing import gradual
from zoo.recipe.schema import OptimTable
from zoo.registry.builtin.freeze import GradualOptions
from zoo.registry.parts import NoOptions
from zoo.train.loop import Loop

SGD = OptimTable(use="sgd", lr=0.01)


def fitted(folder: Path, compiled: bool | str, **keys: Any) -> Loop:
    strategy = build(NoOptions(), replace(SETTINGS, compile=compiled))
    loop = make_loop(folder, strategy=strategy, optim=SGD, **keys)
    loop.fit()
    return loop


def assert_alike(one: Loop, other: Loop) -> None:
    mine, theirs = one.job.model.state_dict(), other.job.model.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_a_compiled_step_computes_the_same(tmp_path: Path) -> None:
    """Through a thaw, with a ragged batch an epoch."""
    thaw = gradual(GradualOptions(thaw={"layer4": 0, "layer3": 1}))
    keys: dict[str, Any] = {"images": 18, "policy": thaw, "accumulate": 2, "ema": 0.5}
    assert_alike(fitted(tmp_path / "plain", False, **keys), fitted(tmp_path / "compiled", "aot_eager", **keys))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_step_compiled_by_inductor_computes_the_same(tmp_path: Path) -> None:
    keys = {"arch": "test_vit", "images": 16, "epochs": 1}  # one graph: it takes most of the time
    assert_alike(fitted(tmp_path / "plain", False, **keys), fitted(tmp_path / "compiled", True, **keys))


def test_a_backend_that_torch_has_not_is_refused() -> None:
    with pytest.raises(DeviceError) as refused:
        build(NoOptions(), replace(SETTINGS, compile="inducto"))
    assert str(refused.value) == (
        "torch.compile has no backend 'inducto'\n  where: device.compile\n"
        "  mend:  did you mean 'inductor'?; or true for inductor"
    )
