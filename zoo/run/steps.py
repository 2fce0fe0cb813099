"""The steps of a run, a function each, in the order in which `finetune` takes them."""

import hashlib
import shlex
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from zoo.callbacks import make_events
from zoo.data import Mix, Preprocess, TrainBatches, ValBatches, check_classes
from zoo.devices.measure import choose_settings, describe, is_open
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
    Split,
    Strategy,
    WeightsFile,
)
from zoo.registry.events import RunEnded
from zoo.run.audit import describe as describe_audit
from zoo.run.folder import RunFolder, environment
from zoo.run.logs import LOGGER, tell
from zoo.run.network import Network, attach_adapter, build_backbone, image_size, make_network
from zoo.train.checkpoint import Checkpoints
from zoo.train.loop import Job, Loop
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
    """Return the device strategy. DeviceError: the device is not here."""
    strategy: Strategy = recipe.device.build(DeviceSettings(**recipe.device.common.model_dump()))
    return strategy


def fetch(recipe: Recipe) -> tuple[Backbone, WeightsFile | None]:
    """Return the backbone, freshly initialised, and where the weights for it are. WeightsError: they cannot be had."""
    size = image_size(recipe)
    backbone = build_backbone(recipe, size)
    file: WeightsFile | None = recipe.weights.build(weights_request(backbone.native, recipe.path))
    if size is None and file and file.input and file.input.size != backbone.input.size:
        backbone = build_backbone(recipe, file.input.size)
    return backbone, file


def gather(recipe: Recipe, spec: InputSpec) -> Gathered:
    """Return the data, ready to be drawn. DataError: there is none, or its classes do not fit."""
    source: DataSource = recipe.data.build(recipe.run.seed)
    check_classes(source)
    table, run = recipe.data.common, recipe.run
    train = TrainBatches(source.train, spec, table, batch_size=run.batch_size, seed=run.seed)
    val = ValBatches(source.val, spec, table, batch_size=-(-run.batch_size // run.accumulate))
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
    for export in recipe.exports:
        exporter: Exporter = export.build()
        exporter.check(network.exportable(spec))


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
    """Place the model; where the recipe says "auto", first measure which settings are fast, and write them into it."""
    settings, model = strategy.settings, network.model
    if is_open(settings):
        count = min(PROBE_IMAGES, recipe.run.batch_size)
        images = torch.randn((count, 3, *gathered.preprocess.spec.size), generator=torch.Generator().manual_seed(0))
        target = torch.zeros(count, dtype=torch.long)

        def loss(images: Tensor) -> Tensor:
            return model.loss(model(images), target.to(images.device)).mean()

        work = _images_to_compute(recipe, network, phases, gathered)
        measured = choose_settings(settings, model.train(), loss, images, work)
        settings = measured.settings
        recipe = recipe.with_device(precision=settings.precision, channels_last=settings.channels_last)
        strategy = place(recipe)
        tell("device", f"{strategy.device}, {describe(settings)} (images/s: {measured})")
    else:
        tell("device", f"{strategy.device}, {describe(settings)}")
    strategy.place(model)
    return recipe, strategy


def _images_to_compute(recipe: Recipe, network: Network, phases: tuple[Phase, ...], gathered: Gathered) -> int:
    """How many images the run puts through the backbone: each once where features are kept throughout."""
    layout, epochs = network.layout(recipe.run.epochs), recipe.run.epochs
    once = can_keep(recipe.data.common) and all(find_frontier(layout, phase.plan).whole for phase in phases)
    return (gathered.train.images + gathered.val.images) * (1 if once else epochs)


def write_facts(
    folder: RunFolder, recipe: Recipe, strategy: Strategy, ledger: Ledger | None, gathered: Gathered
) -> None:
    """Write what is known before the first step: recipe, environment, ledger and class names."""
    owners = {f"{chosen.part.kind.name} {chosen.part.name}": str(chosen.owner) for chosen in recipe.chosen()}
    folder.write_json("environment.json", environment(owners, str(strategy.device)))
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
    gathered: Gathered,
    file: WeightsFile | None,
) -> Loop:
    """Return the training loop, at the run's first step."""
    callbacks = {
        f"{callback.part.name} (callback.{index})": callback.build(folder.path)
        for index, callback in enumerate(recipe.callbacks)
    }
    data = recipe.data.common
    mix = Mix(data.mixup, data.cutmix, len(network.data_classes))
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
            checkpoints=Checkpoints(folder.checkpoints, recipe.checkpoint.keep),
            directions=recipe.directions(),
            layout=network.layout(recipe.run.epochs),
            phases=phases,
            keep=can_keep(data),
            events=make_events(callbacks),
            tell=tell,
            facts=facts(network, gathered, file),
            resume_command=shlex.join(["zoo", "finetune", "--resume", str(folder.path)]),
        )
    )


def fit(loop: Loop, folder: RunFolder) -> RunEnded:
    """Train, and list the images that were skipped, however it ends. RunError: see `Loop.fit`."""
    try:
        ended = loop.fit()
        report = loop.audit.report()
        folder.write_json("audit.json", report)
        for line in describe_audit(report):
            tell("audit", line)
        return ended
    except BaseException:
        with suppress(RunError):  # the disk may be what ended the run
            folder.write_json("audit.json", loop.audit.report())
        raise
    finally:
        bad = [*loop.job.train.bad, *loop.job.val.bad]
        if bad:
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
        "images": [_fingerprint(source.train), _fingerprint(source.val)],
        "base_weights": base,
    }


def _fingerprint(split: Split) -> str:
    """How many images, and a digest of their names and classes in order."""
    digest = hashlib.sha256()
    for index in range(len(split)):
        digest.update(f"{split.identity(index)}\0{split.target(index)}\n".encode("utf-8", "surrogateescape"))
    return f"{len(split)} ({digest.hexdigest()[:12]})"
