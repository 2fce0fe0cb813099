"""The loop in two real processes: the same gradients, the same validation, the same checkpoints as in one."""

from dataclasses import replace
from itertools import count, product
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import SumMetric

from tests.devices.together import together
from tests.train.tiny import SETTINGS, SPEC, make_backbone, make_job, make_loop, make_model
from zoo.data import Preprocess
from zoo.devices.data_parallel import build as data_parallel
from zoo.devices.ddp import build as ddp
from zoo.devices.fsdp import build as fsdp
from zoo.devices.single import build as single
from zoo.errors import RunError
from zoo.recipe.schema import OptimTable
from zoo.registry.builtin.devices import ProcessesOptions
from zoo.registry.contracts import Strategy
from zoo.registry.parts import NoOptions
from zoo.shards import whole, whole_state
from zoo.train.checkpoint import Checkpoints, read
from zoo.train.loop import Loop
from zoo.train.optim_state import optimizer_tensors

BATCHES = {
    "whole": {},
    "in two": {"accumulate": 2},
    "ragged": {"images": 21, "accumulate": 3},
    "one image left over": {"images": 33},
    "mixed": {"data": {"mixup": 0.4, "cutmix": 1.0}},
}


def make_strategy(name: str, **settings: Any) -> Strategy:
    chosen = replace(SETTINGS, **settings)
    if name in ("single", "data-parallel"):
        alone: Strategy = {"single": single, "data-parallel": data_parallel}[name](NoOptions(), chosen)
        return alone
    several: Strategy = {"ddp": ddp, "fsdp": fsdp}[name](ProcessesOptions(timeout=60), chosen)
    return several


def gradients(folder: Path, strategy: str) -> dict[str, tuple[list[float], list[Tensor], list[float]]]:
    """Loss and gradients of every batch of an epoch, without steps, through a model that has no batch norm."""
    found = {}
    chosen = make_strategy(strategy)
    for name, keys in BATCHES.items():
        loop = make_loop(folder / name, arch="test_vit", strategy=chosen, **{"images": 32, "batch_size": 32, **keys})
        loop.job.model.train()
        loop._enter(loop.job.phases[0])
        losses = []
        for part in loop.job.train.epoch(0):
            losses.append(float(loop._gradients(part, int(chosen.total([part.own])[0]))))
        grads = [whole(parameter.grad) for parameter in loop.job.model.parameters() if parameter.grad is not None]
        found[name] = (losses, grads, list(loop._validate().values()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_gradients_and_metrics_are_those_of_one_process(tmp_path: Path, strategy: str) -> None:
    alone = gradients(tmp_path / "alone", "single")
    for found in together(tmp_path / "together", 2, gradients, tmp_path / "both", strategy):
        for name, (losses, grads, metrics) in alone.items():
            assert found[name][0] == pytest.approx(losses, rel=1e-6), name
            assert found[name][2] == pytest.approx(metrics, rel=1e-6), name
            for one, other in zip(grads, found[name][1], strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7, msg=name)


class Counts(SumMetric):
    """How many images a validation saw."""

    def update(self, logits: Tensor, target: Tensor) -> None:
        super().update(torch.ones(len(target)))


def counted(folder: Path) -> dict[str, float]:
    """Validate with a metric that adds."""
    loop = make_loop(folder, arch="test_vit", strategy=make_strategy("ddp"))
    object.__setattr__(loop.job.model.head("main"), "metrics", lambda: {"seen": Counts()})
    loop._enter(loop.job.phases[0])
    return loop._validate()


@pytest.mark.slow
def test_a_metric_that_adds_adds_every_image_once(tmp_path: Path) -> None:
    for found in together(tmp_path / "together", 2, counted, tmp_path / "run"):
        assert found["val/seen"] == 10


def failed(folder: Path) -> str:
    """Train on images of which one process alone sees some that are no numbers."""
    strategy = make_strategy("ddp")
    job = make_job(folder, arch="test_vit", strategy=strategy)
    if strategy.rank == 1:
        steps = count(1)
        job = replace(job, normalise=lambda images: job_normalise(images) * (nan if next(steps) == 2 else 1))
    with pytest.raises(RunError) as refused:
        Loop(job).fit()
    return str(refused.value)


job_normalise = Preprocess(SPEC).normalise


@pytest.mark.slow
def test_a_loss_of_one_process_that_is_no_number_ends_all_at_the_same_step(tmp_path: Path) -> None:
    said = 'the loss is nan at step 2\n  mend:  lower optim.lr, set run.clip_norm, or set device.precision = "fp32"'
    assert together(tmp_path / "together", 2, failed, tmp_path / "run") == [said, said]


COMPILE = (False, "aot_eager")
EMA = (0.0, 0.5)
STRATEGIES = ("single", "data-parallel", "ddp", "fsdp")
KEYS: dict[str, Any] = {"arch": "test_vit", "images": 22, "epochs": 1, "optim": OptimTable(use="sgd", lr=0.05)}


def place_of(folder: Path, strategy: str, compiled: bool | str, ema: float) -> Path:
    return folder / f"{strategy}-{compiled}-{ema}"


def fitted(folder: Path, strategy: str) -> None:
    """Train to the end, with and without torch.compile and a moving average."""
    for compiled in COMPILE:
        chosen = make_strategy(strategy, compile=compiled)
        for ema in EMA:
            make_loop(place_of(folder, strategy, compiled, ema), strategy=chosen, ema=ema, **KEYS).fit()


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def opened(folder: Path, strategy: str) -> list[str]:
    """Go on from everyone's checkpoint; return those that come back with another tensor than they hold."""
    wrong = []
    for ema in EMA:
        for other in STRATEGIES:
            for compiled in COMPILE:
                chosen = make_strategy(strategy)
                place = place_of(folder, other, compiled, ema)
                loop = make_loop(place, strategy=chosen, ema=ema, **{**KEYS, "epochs": 2})
                newest = loop.job.checkpoints.newest()
                assert newest is not None
                loop.load(newest)
                held = {"model": whole_state(loop.job.model.state_dict())}
                held["optimizer"] = optimizer_tensors(loop.job.optimizer)
                if loop.job.average:
                    held["ema"] = whole_state(loop.job.average.module.state_dict())
                wrong += [place.name for file, kept in newest.tensors.items() if not alike(kept, held[file])]
    return wrong


def read_best(run: Path) -> dict[str, Tensor]:
    """The weights that a run would export: the moving average where there is one."""
    best = Checkpoints(run / "checkpoints", 1).best()
    assert best is not None
    tensors = read(best).tensors
    return tensors.get("ema", tensors["model"])


def logits(weights: dict[str, Tensor]) -> list[float]:
    """What plain torch makes of the weights."""
    model = make_model(make_backbone("test_vit")).eval()
    model.load_state_dict(weights)
    with torch.inference_mode():
        found: Tensor = model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))["main"]
    return found.flatten().tolist()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_checkpoint_opens_under_every_strategy_and_all_train_alike(tmp_path: Path) -> None:
    for strategy in ("single", "data-parallel"):
        fitted(tmp_path, strategy)
    for strategy in ("ddp", "fsdp"):
        together(tmp_path / f"fit {strategy}", 2, fitted, tmp_path, strategy)
    for ema in EMA:
        kept = read_best(place_of(tmp_path, "single", False, ema))
        for strategy, compiled in product(STRATEGIES, COMPILE):
            other = read_best(place_of(tmp_path, strategy, compiled, ema))
            assert other.keys() == kept.keys()
            assert logits(other) == pytest.approx(logits(kept), abs=1e-5), (strategy, compiled, ema)
    for strategy in ("single", "data-parallel"):
        assert opened(tmp_path, strategy) == []
    for strategy in ("ddp", "fsdp"):
        assert together(tmp_path / f"open {strategy}", 2, opened, tmp_path, strategy) == [[], []]
