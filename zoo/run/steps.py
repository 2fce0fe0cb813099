"""The steps of a run, a function each, in the order in which `finetune` takes them."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor
from torch.optim import Optimizer

from zoo.callbacks import make_events
from zoo.data import ALONE, BadImage, Mix, Preprocess, Share, TrainBatches, ValBatches, check_classes, fingerprint
from zoo.devices.measure import Measured, choose_settings, describe, is_open
from zoo.devices.single import Single, find_device
from zoo.errors import RunError
from zoo.freeze.frontier import find_frontier
from zoo.freeze.plan import Phase, Rules, make_phases
from zoo.freeze.still import follow
from zoo.recipe import Recipe
from zoo.registry.contracts import (
    Backbone,
    DataSource,
    DeviceSettings,
    Exporter,
    InputSpec,
    Strategy,
    WeightsFile,
)
from zoo.registry.events import RunEnded
from zoo.run.audit import describe as describe_audit
from zoo.run.base import base_state
from zoo.run.folder import RunFolder, environment
from zoo.run.launching import check_launched, settings
from zoo.run.logs import LOGGER, tell
from zoo.run.network import Network, alone, attach_adapter, build_backbone, image_size, make_network
from zoo.run.origins import keep_files, owners
from zoo.shards import is_sharded
from zoo.train.checkpoint import Checkpoints
from zoo.train.job import About, Job
from zoo.train.loop import Loop
from zoo.train.route import can_keep
from zoo.weights.ledger import Ledger
from zoo.weights.loading import load_state
from zoo.weights.places import weights_request

PROBE_IMAGES = 16
"""Images of the batch on which fast settings are measured: enough to rank them, few enough to take seconds."""


@dataclass(frozen=True)
class Gathered:
    """A data source, the preprocessing for it, and its batches."""

    source: DataSource
    preprocess: Preprocess
    train: TrainBatches
    val: ValBatches

    def close(self) -> None:
        """End the worker processes."""
        self.train.close()
        self.val.close()


def place(recipe: Recipe) -> Strategy:
    """Return the device strategy. DeviceError: the device is not here, or a launcher started several for one device."""
    check_launched(recipe)
    strategy: Strategy = recipe.device.build(settings(recipe))
    return strategy


def place_alone(recipe: Recipe, device: str = "auto") -> Single:
    """Return the strategy for one device in the recipe's precision. DeviceError: it is not here."""
    table = recipe.device.common
    chosen = DeviceSettings(device, table.precision, table.channels_last)
    return Single(find_device(device), chosen)


@contextmanager
def main_first(strategy: Strategy) -> Iterator[None]:
    """Let rank 0 do the block before the others: what it downloads is there for them."""
    if not strategy.is_main:
        strategy.gather(None)
    yield
    if strategy.is_main:
        strategy.gather(None)


def fetch(recipe: Recipe) -> tuple[Backbone, WeightsFile | None]:
    """Return the backbone, freshly initialised, and where the weights for it are. WeightsError: they cannot be had."""
    size = image_size(recipe)
    backbone = build_backbone(recipe, size)
    file: WeightsFile | None = recipe.weights.build(weights_request(backbone.native, recipe.path))
    if size is None and file and file.input and file.input.size != backbone.input.size:
        backbone = build_backbone(recipe, file.input.size)
    return backbone, file


def share(recipe: Recipe, strategy: Strategy) -> Share:
    """Return which part of every batch this process takes."""
    table = recipe.data.common
    return Share(strategy.rank, strategy.processes, mixes=bool(table.mixup or table.cutmix))


def gather(recipe: Recipe, spec: InputSpec, share: Share = ALONE) -> Gathered:
    """Return the data, ready to be drawn. DataError: there is none, or its classes do not fit."""
    source: DataSource = recipe.data.build(recipe.run.seed)
    check_classes(source)
    table, run = recipe.data.common, recipe.run
    train = TrainBatches(source.train, spec, table, batch_size=run.batch_size, seed=run.seed, share=share)
    val = ValBatches(source.val, spec, table, batch_size=-(-run.batch_size // run.accumulate), share=share)
    counts = f"{len(source.train):,} train, {len(source.val):,} val, {len(source.classes)} classes"
    tell("data", f"{recipe.data.part.name}: {counts}, {spec.size[0]} × {spec.size[1]} px")
    return Gathered(source, Preprocess(spec), train, val)


def assemble(
    recipe: Recipe, backbone: Backbone, file: WeightsFile | None, gathered: Gathered
) -> tuple[Network, Ledger | None]:
    """Return the model with its weights loaded, and the ledger. WeightsError: they do not wholly cover the backbone."""
    network = make_network(recipe, backbone, gathered.source.classes)
    if file is None:
        tell("weights", f"none: a random start from seed {recipe.run.seed}")
        return network, None
    ledger = load_state(network.target(), file, recipe.weights.common)
    LOGGER.info("%s", ledger.table())
    LOGGER.debug("%s", ledger.details())
    return network, ledger


def check_exports(recipe: Recipe, network: Network, spec: InputSpec) -> None:
    """Refuse now, not after training, what an exporter could not write. ZooError: see the exporter's `check`."""
    model = replace(network.exportable(spec), calibration=lambda count: torch.empty(0, 3, *spec.size))
    if recipe.weights.part.name != "none":
        model = replace(model, base=lambda: base_state(recipe, spec, network.data_classes))
    for export in recipe.exports:
        exporter: Exporter = export.build()
        exporter.check(model)


def freeze(recipe: Recipe, network: Network) -> tuple[Phase, ...]:
    """Return the freeze phases; the model has the parameters that the policy adds, and follows the first phase.

    ZooError: one of them names what is not there, or lets nothing train.
    """
    model = network.model
    attach_adapter(recipe, network)
    phases = make_phases(model, network.layout(recipe.run.epochs), recipe.freeze.build(), rules(recipe))
    follow(model, phases[0].plan)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    for phase in phases:
        trained = sum(size for name, size in sizes.items() if phase.plan.rates[name])
        share = f"{_millions(trained)} of {_millions(sum(sizes.values()))} M parameters train"
        when = f"from epoch {phase.first + 1}: " if len(phases) > 1 else ""
        tell("freeze", f"{recipe.freeze.part.name}: {when}{share}, {len(phase.plan.fixed_norms)} batch norms fixed")
    return phases


def rules(recipe: Recipe) -> Rules:
    """Return what the recipe says of freezing beside its policy."""
    return Rules(recipe.freeze.common.bn, recipe.freeze.common.mode, tuple(recipe.optim.no_decay))


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}" if count >= 10_000 else f"{count / 1e6:.2g}"


def tune(
    recipe: Recipe, strategy: Strategy, network: Network, phases: tuple[Phase, ...], gathered: Gathered
) -> tuple[Recipe, Strategy]:
    """Where the recipe says "auto", measure which settings are fast, and write them into it. Rank 0 measures."""
    model, chosen = network.model, settings(recipe)
    if chosen != strategy.settings:  # a resume keeps to what was measured
        strategy = place(recipe)
    if is_open(chosen):
        count = min(PROBE_IMAGES, recipe.run.batch_size)
        images = torch.randn((count, 3, *gathered.preprocess.spec.size), generator=torch.Generator().manual_seed(0))
        target = torch.zeros(count, dtype=torch.long)

        def loss(images: Tensor) -> Tensor:
            return model.loss(model(images), target.to(images.device)).mean()

        work = _images_to_compute(recipe, network, phases, gathered)
        here = replace(chosen, device=str(strategy.device))
        found = choose_settings(here, model.train(), loss, images, work) if strategy.is_main else None
        measured: Measured = strategy.gather(found)[0]
        fast = measured.settings
        recipe = recipe.with_device(precision=fast.precision, channels_last=fast.channels_last)
        strategy = place(recipe)
        tell("device", f"{_where(recipe, strategy)}, {describe(fast)} (images/s: {measured})")
    else:
        tell("device", f"{_where(recipe, strategy)}, {describe(chosen)}")
    return recipe, strategy


def _where(recipe: Recipe, strategy: Strategy) -> str:
    if strategy.processes == 1:
        return str(strategy.device)
    return f"{recipe.device.part.name}, {strategy.processes} processes, {strategy.device.type}"


def settle(recipe: Recipe, strategy: Strategy, network: Network) -> ModelEmaV3 | None:
    """Place the model, and return its moving average, placed alike; None for none.

    The average is a copy of the model before anything is sharded: shards cannot be copied.
    """
    stages = network.layout(recipe.run.epochs).stages
    average = ModelEmaV3(network.model, decay=recipe.run.ema) if recipe.run.ema else None
    strategy.place(network.model, stages)
    if average is not None:
        strategy.place(average.module, stages)
        average.foreach = not any(is_sharded(parameter) for parameter in average.module.parameters())
    return average


def _images_to_compute(recipe: Recipe, network: Network, phases: tuple[Phase, ...], gathered: Gathered) -> int:
    """How many images the run puts through the backbone: each once where features are kept throughout."""
    layout, epochs = network.layout(recipe.run.epochs), recipe.run.epochs
    once = can_keep(recipe.data.common) and all(find_frontier(layout, phase.plan).whole for phase in phases)
    return (gathered.train.images + gathered.val.images) * (1 if once else epochs)


def write_facts(
    folder: RunFolder, recipe: Recipe, strategy: Strategy, ledger: Ledger | None, gathered: Gathered
) -> None:
    """Write what is known before the first step: recipe, environment, local files, ledger and class names."""
    folder.write_json("environment.json", environment(owners(recipe), str(strategy.device)))
    keep_files(recipe, folder)
    folder.write_json("load.json", ledger.as_dict() if ledger else {"entries": [], "origin": "none"})
    folder.write_lines("classes.txt", gathered.source.classes)
    folder.write_lines("recipe.toml", [recipe.to_toml().rstrip()])


def prepare(
    recipe: Recipe,
    folder: RunFolder,
    strategy: Strategy,
    network: Network,
    phases: tuple[Phase, ...],
    optimizer: Optimizer,
    average: ModelEmaV3 | None,
    gathered: Gathered,
    file: WeightsFile | None,
) -> Loop:
    """Return the training loop, at the run's first step. RunError: the processes do not have the same data."""
    callbacks = {
        f"{callback.part.name} (callback.{index})": callback.build(folder.path)
        for index, callback in enumerate(recipe.callbacks if strategy.is_main else ())
    }
    found = facts(network, gathered, file)
    _check_alike(strategy, found)
    data = recipe.data.common
    mix = Mix(data.mixup, data.cutmix, len(network.data_classes))
    spec = gathered.preprocess.spec
    return Loop(
        Job(
            run=recipe.run,
            optim=recipe.optim,
            schedule=recipe.schedule,
            checkpoint=recipe.checkpoint,
            model=network.model,
            optimizer=optimizer,
            strategy=strategy,
            train=gathered.train,
            val=gathered.val,
            val_images=len(gathered.source.val),
            normalise=gathered.preprocess.normalise,
            mix=mix,
            average=average,
            checkpoints=Checkpoints(folder.checkpoints, recipe.checkpoint.keep, writes=strategy.is_main),
            directions=recipe.directions(),
            layout=network.layout(recipe.run.epochs),
            phases=phases,
            keep=can_keep(data),
            events=make_events(callbacks),
            tell=tell,
            about=About(recipe.to_table(), network.classes, spec, lambda: alone(recipe, network, spec)),
            facts=found,
            resume_command=shlex.join(["zoo", "finetune", "--resume", str(folder.path)]),
        )
    )


def _check_alike(strategy: Strategy, found: Mapping[str, Any]) -> None:
    """Compare what each process read: machines may have other files under the same names."""
    for rank, theirs in enumerate(strategy.gather(found)):
        different = [key for key in found if json.dumps(theirs[key]) != json.dumps(found[key])]
        if different:
            what = f"processes {rank} and {strategy.rank} have other {', '.join(different)}"
            raise RunError(what, where="[data], [weights]", hint="give all machines the same files")


def fit(loop: Loop, folder: RunFolder) -> RunEnded:
    """Train, and list the images that were skipped, however it ends. RunError: see `Loop.fit`.

    Rank 0 writes. When the run fails it does not wait for what the others could say.
    """
    strategy = loop.job.strategy
    try:
        ended = loop.fit()
    except BaseException:
        with suppress(RunError):  # the disk may be what ended the run
            if strategy.processes == 1:
                folder.write_json("audit.json", loop.audit.report())
            _list_bad(folder, strategy.is_main, [*loop.job.train.bad, *loop.job.val.bad])
        raise
    report = loop.audit.report()
    everyone = strategy.gather((loop.job.train.bad, loop.job.val.bad))
    bad = [{image.index: image for found in split for image in found} for split in zip(*everyone, strict=True)]
    _list_bad(folder, strategy.is_main, [split[index] for split in bad for index in sorted(split)])
    if strategy.is_main:
        folder.write_json("audit.json", report)
        for line in describe_audit(report):
            tell("audit", line)
    return ended


def _list_bad(folder: RunFolder, is_main: bool, bad: Sequence[BadImage]) -> None:
    if bad and is_main:
        folder.write_lines("bad_images.txt", [f"{image.identity}\t{image.reason}" for image in bad])
        tell("skipped", f"{len(bad)} images that cannot be decoded, listed in {folder.path / 'bad_images.txt'}")


def facts(network: Network, gathered: Gathered, file: WeightsFile | None) -> dict[str, Any]:
    """Return what travels with the weights in every checkpoint: class names, preprocessing, what they started from.

    `images` tells whether a resume draws the same ones.
    """
    base = None
    if file:
        base = {"origin": file.origin, "sha256": file.sha256, "licence": file.licence}
    source = gathered.source
    return {
        "classes": list(network.data_classes),
        "input": asdict(gathered.preprocess.spec),
        "images": [fingerprint(source.train), fingerprint(source.val)],
        "base_weights": base,
    }
