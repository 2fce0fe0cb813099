"""A whole job at the smallest size: a real model on a few random images of 32 px."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import nn

from zoo.backbones.timm import build as build_backbone
from zoo.callbacks import make_events
from zoo.data import Mix, Preprocess, Share, TrainBatches, ValBatches
from zoo.data.arrays import ArraySplit
from zoo.devices.single import build as build_strategy
from zoo.freeze.decay import decayed
from zoo.freeze.layout import make_layout
from zoo.freeze.plan import Phase, Plan, Rules, make_phases
from zoo.freeze.policies import none
from zoo.freeze.still import follow
from zoo.heads.linear import LinearHead
from zoo.recipe.schema import CheckpointTable, CosineSchedule, DataTable, OptimTable, RunTable
from zoo.registry.builtin.backbones import TimmOptions
from zoo.registry.contracts import (
    Adapter,
    Backbone,
    DeviceSettings,
    FreezePolicy,
    InputSpec,
    Layout,
    Rates,
    Strategy,
)
from zoo.registry.parts import NoOptions
from zoo.shards import is_sharded
from zoo.train.checkpoint import Checkpoints
from zoo.train.job import About, Job
from zoo.train.loop import Loop
from zoo.train.model import Model
from zoo.train.optim import make_optimizer
from zoo.train.route import can_keep

SPEC = InputSpec(size=(32, 32), crop_pct=1.0)
CLASSES = 3
RULES = Rules()
SETTINGS = DeviceSettings(device="cpu", precision="fp32", channels_last=False)


def make_backbone(arch: str = "test_resnet", drop_path: float = 0.0) -> Backbone:
    """Return a backbone, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_backbone(TimmOptions(arch=arch, drop_path=drop_path), SPEC.size)


def make_model(backbone: Backbone | None = None, dropout: float = 0.0, heads: tuple[str, ...] = ("main",)) -> Model:
    """Return a model, always with the same weights; the second head counts half."""
    backbone = backbone or make_backbone()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        built = {name: LinearHead(backbone.spec, CLASSES, dropout) for name in heads}
    return Model(backbone, built, {name: 0.5**place for place, name in enumerate(heads)})


def stages(backbone: Backbone) -> tuple[str, ...]:
    """Return the stages as the model names them."""
    return tuple(f"backbone.{stage}" for stage in backbone.stages)


def layout(backbone: Backbone, model: Model, epochs: int = 1) -> Layout:
    """Return the model's layout."""
    heads = [f"heads.{name}" for name in model.heads]
    found = stages(backbone)
    return make_layout(model, found, heads, depths=backbone.depths, root="backbone.", epochs=epochs)


def phases_of(model: nn.Module, rates: Rates) -> tuple[Phase, ...]:
    """Return one phase of any model, at these rates; nothing need train."""
    found = make_layout(model, list(dict.fromkeys(name.partition(".")[0] for name, _ in model.named_parameters())), [])
    shrunk = frozenset(name for name in decayed(model, found) if rates[name])
    return (Phase(0, 1, Plan(rates, frozenset(), frozenset(), frozenset(), shrunk)),)


def make_split(count: int, name: str) -> ArraySplit:
    """Return random images whose brightness tells the class, so that there is something to learn."""
    random = np.random.default_rng(count)
    targets = np.arange(count) % CLASSES
    images = random.integers(0, 96, (count, 32, 32, 3)) + 75 * targets[:, None, None, None]
    return ArraySplit(images.astype(np.uint8), targets, name)


def make_job(
    folder: Path,
    *,
    arch: str = "test_resnet",
    images: int = 20,
    callbacks: Mapping[str, object] | None = None,
    policy: FreezePolicy | None = None,
    adapter: Adapter | None = None,
    rules: Rules = RULES,
    settings: DeviceSettings = SETTINGS,
    strategy: Strategy | None = None,
    optim: OptimTable | None = None,
    checkpoint: CheckpointTable | None = None,
    data: Mapping[str, Any] | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    directions: Mapping[str, Any] | None = None,
    **run: Any,
) -> Job:
    """Return a job of two epochs over `images` images, 8 a step; `run` are keys of `[run]`."""
    backbone = make_backbone(arch, drop_path)
    model = make_model(backbone, dropout)
    if adapter:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            adapter.attach(model, layout(backbone, model))
    run_table = RunTable(**{"name": "tiny", "epochs": 2, "batch_size": 8, **run})
    strategy = strategy or build_strategy(NoOptions(), settings)
    average = ModelEmaV3(model, decay=run_table.ema) if run_table.ema else None
    for module in [model, average.module] if average else [model]:
        strategy.place(module, stages(backbone))
    if average:
        average.foreach = not any(map(is_sharded, average.module.parameters()))
    data_table = DataTable(**{"workers": 0, **(data or {})})
    share = Share(strategy.rank, strategy.processes, mixes=bool(data_table.mixup or data_table.cutmix))
    optim = optim or OptimTable(lr=1e-2)
    phases = make_phases(model, layout(backbone, model, run_table.epochs), policy or none(NoOptions()), rules)
    follow(model, phases[0].plan)
    split = make_split(10, "val")
    mix = Mix(data_table.mixup, data_table.cutmix, CLASSES)
    checkpoint = checkpoint or CheckpointTable()
    return Job(
        run=run_table,
        optim=optim,
        schedule=CosineSchedule(warmup=0.2),
        checkpoint=checkpoint,
        model=model,
        optimizer=make_optimizer(optim, model, phases),
        strategy=strategy,
        train=TrainBatches(
            make_split(images, "train"),
            SPEC,
            data_table,
            batch_size=run_table.batch_size,
            seed=run_table.seed,
            share=share,
        ),
        val=ValBatches(split, SPEC, data_table, batch_size=4, share=share),
        val_images=len(split),
        normalise=Preprocess(SPEC).normalise,
        mix=mix,
        average=average,
        checkpoints=Checkpoints(folder / "checkpoints", checkpoint.keep, writes=strategy.is_main),
        directions=dict(directions or {"val/accuracy": "max", "val/loss": "min"}),
        layout=layout(backbone, model, run_table.epochs),
        phases=phases,
        keep=can_keep(data_table),
        events=make_events(callbacks or {}),
        about=About({"format": 1, "run": run_table.model_dump(mode="json")}, ("a", "b", "c"), SPEC, nn.Identity),
        facts={"classes": ["a", "b", "c"]},
    )


def make_loop(folder: Path, **keys: Any) -> Loop:
    """Return a loop over `make_job`."""
    return Loop(make_job(folder, **keys))


def resumed(folder: Path, **keys: Any) -> Loop:
    """Return a fresh loop that goes on from the newest whole checkpoint in `folder`."""
    loop = make_loop(folder, **keys)
    newest = loop.job.checkpoints.newest()
    if newest is None:
        raise RuntimeError("there is no checkpoint")
    loop.load(newest)
    return loop
