"""What a run would do, told before anything runs: on the meta device, without an image or a value of the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from zoo.devices.single import find_device
from zoo.errors import DeviceError, Problem, ZooError
from zoo.freeze.names import short, under
from zoo.freeze.plan import Phase, Plan, make_phases
from zoo.meta import on_meta
from zoo.recipe import Chosen, Recipe
from zoo.registry.contracts import Backbone, InputSpec, Layout
from zoo.run import steps
from zoo.run.cost import CheckpointSize, Features, Holding, StepMemory, foresee
from zoo.run.network import Network, attach_adapter, build_backbone, image_size, input_spec, make_network
from zoo.train.schedule import factor
from zoo.weights.ledger import Ledger
from zoo.weights.loading import plan as plan_load
from zoo.weights.local import Known, known_weights
from zoo.weights.places import weights_request

CLASSES = tuple(map(str, range(10)))
"""Classes that heads are counted for while the data is not here."""
STEPS = 100
"""Steps of an epoch that the learning rate is shown for while nobody knows how many there are."""
COLUMNS = 60
"""Places at which the learning rate is given."""


@dataclass(frozen=True)
class Data:
    """What there is to train on. `images` are those of the splits, None while the data is not here, and `why`."""

    use: str
    classes: tuple[str, ...]
    size: tuple[int, int]
    images: tuple[int, int] | None = None
    steps_per_epoch: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Head:
    """A head: its part, what it predicts, and how many classes that has."""

    name: str
    use: str
    target: str
    classes: int


@dataclass(frozen=True)
class Doing:
    """What a stage does in a phase: rates that occur in it, parameters that move, norms fixed and tracked, its mode.

    The mode is None for a bare parameter, such as a class token.
    """

    rates: tuple[float | None, ...]
    trained: int
    fixed: int
    tracked: int
    mode: str | None


@dataclass(frozen=True)
class Stage:
    """A stage of the backbone or a head, and what it does in each phase."""

    name: str
    parameters: int
    phases: tuple[Doing, ...]


@dataclass(frozen=True)
class PhaseRates:
    """A phase, from the epoch `first` up to but not including `end` (from 0), and every parameter's rate in it."""

    first: int
    end: int
    trained: int
    fixed_norms: int
    tracked_norms: int
    rates: Mapping[str, float | None]


@dataclass(frozen=True)
class Curve:
    """The run's learning rate: at COLUMNS steps from the first to the last of `total`, at its peak, and at the end."""

    total: int
    values: tuple[float, ...]
    peak: float
    peak_step: int
    end: float


@dataclass(frozen=True)
class Preview:
    """What a run would do. `weights` and `why_no_ledger` say where it starts from, and why the ledger is not known."""

    name: str
    path: Path | None
    backbone: str
    parameters: int
    heads: tuple[Head, ...]
    weights: str
    data: Data
    device: str
    precision: str
    epochs: int
    batch_size: int
    accumulate: int
    policy: str
    phases: tuple[PhaseRates, ...]
    stages: tuple[Stage, ...]
    optimizer: Holding
    features: tuple[Features, ...]
    curve: Curve
    memory: tuple[StepMemory, ...]
    checkpoint: CheckpointSize
    ledger: Ledger | None
    why_no_ledger: str = ""

    @property
    def steps(self) -> int | None:
        """Optimiser steps of the run; None while the data is not here."""
        per_epoch = self.data.steps_per_epoch
        return None if per_epoch is None else per_epoch * self.epochs

    @property
    def peak(self) -> int | None:
        """The most bytes that a step takes; None where it cannot be told."""
        peaks = [found.peak for found in self.memory]
        return None if None in peaks else max(peak for peak in peaks if peak is not None)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: the fields, `steps`, the peaks of memory, and the size of a checkpoint."""
        plain = asdict(replace(self, ledger=None))
        plain["memory"] = [{**asdict(found), "peak": found.peak} for found in self.memory]
        plain["checkpoint"]["total"] = self.checkpoint.total
        ledger = self.ledger.as_dict() if self.ledger else None
        return {**plain, "ledger": ledger, "steps": self.steps, "peak": self.peak}


def preview(recipe: Recipe) -> Preview:
    """Return what a run of the recipe would do on this machine.

    Nothing is downloaded, no image is decoded, and values are read of a weights file only when it is here. Data and a
    device that are not here are said to be so. ZooError: whatever else the run would refuse before its first step.
    """
    backbone, known = _backbone(recipe)
    spec = input_spec(recipe, backbone, known.file)
    data = _data(recipe, spec)
    with on_meta():
        network = make_network(recipe, backbone, data.classes)
    ledger, why = _ledger(recipe, network, known, data)
    steps.check_exports(recipe, network, spec)
    with on_meta():
        attach_adapter(recipe, network)
    layout = network.layout(recipe.run.epochs)
    phases = make_phases(network.model, layout, recipe.freeze.build(), steps.rules(recipe))
    costs = foresee(recipe, network, phases, data.size, data.images)
    sizes = {name: parameter.numel() for name, parameter in network.model.named_parameters()}
    return Preview(
        name=recipe.run.name,
        path=recipe.path,
        backbone=backbone.native.identity,
        parameters=sum(sizes.values()),
        heads=tuple(_head(head, network) for head in recipe.heads),
        weights=_weights(recipe, known),
        data=data,
        device=_device(recipe),
        precision=recipe.device.common.precision,
        epochs=recipe.run.epochs,
        batch_size=recipe.run.batch_size,
        accumulate=recipe.run.accumulate,
        policy=recipe.freeze.part.name,
        phases=tuple(_phase(phase, sizes) for phase in phases),
        stages=tuple(_stages(network.model, layout, phases, sizes)),
        optimizer=costs.optimizer,
        features=costs.features,
        curve=_curve(recipe, data.steps_per_epoch or STEPS),
        memory=costs.memory,
        checkpoint=costs.checkpoint,
        ledger=ledger,
        why_no_ledger=why,
    )


def _backbone(recipe: Recipe) -> tuple[Backbone, Known]:
    """The backbone on the meta device, at the size that the run would give it; see `steps.fetch`."""
    size = image_size(recipe)
    with on_meta():
        backbone = build_backbone(recipe, size)
    known = known_weights(recipe.weights, weights_request(backbone.native, recipe.path))
    wanted = known.file.input.size if known.file and known.file.input else backbone.input.size
    if size is None and wanted != backbone.input.size:
        with on_meta():
            backbone = build_backbone(recipe, wanted)
    return backbone, known


def _data(recipe: Recipe, spec: InputSpec) -> Data:
    """What the data source lists. DataError: it is here, and the run would refuse it."""
    use, recipe = recipe.data.part.name, replace(recipe, data=_without_download(recipe.data))
    try:
        gathered = steps.gather(recipe, spec)
    except ZooError as error:
        if _is_here(recipe):
            raise
        return Data(use, _classes(recipe), spec.size, why="; ".join(map(_said, error.problems)))
    images, per_epoch = (gathered.train.images, gathered.val.images), gathered.train.steps_per_epoch
    gathered.close()
    return Data(use, gathered.source.classes, spec.size, images, per_epoch)


def _is_here(recipe: Recipe) -> bool:
    """Whether the data can be had, so that what is wrong with it is the user's to mend, on whatever machine."""
    try:
        recipe.data.build(recipe.run.seed)
    except ZooError:
        return False
    return True


def _without_download(chosen: Chosen[Any]) -> Chosen[Any]:
    if "download" not in type(chosen.options).model_fields:
        return chosen
    return replace(chosen, options=chosen.options.model_copy(update={"download": False}))


def _classes(recipe: Recipe) -> tuple[str, ...]:
    """The classes that the recipe itself names in groups, which hold all of them; else ten."""
    targets: Mapping[str, Mapping[str, Sequence[str]]] = recipe.data.common.targets
    groups = next(iter(targets.values()), {})
    return tuple(name for names in groups.values() for name in names) or CLASSES


def _said(problem: Problem) -> str:
    return f"{problem.what} ({problem.where})" if problem.where else problem.what


def _ledger(recipe: Recipe, network: Network, known: Known, data: Data) -> tuple[Ledger | None, str]:
    """The ledger of the load, or why there is none. WeightsError: the load would be refused."""
    if known.file is None:
        return None, f"nothing is loaded: a random start from seed {recipe.run.seed}"
    if known.missing:
        return None, "not known before the file is here"
    if data.images is None and recipe.weights.common.head != "reset":
        return None, "not known before the data is here: it has the classes"
    return plan_load(network.target(), known.file, recipe.weights.common).ledger, ""


def _weights(recipe: Recipe, known: Known) -> str:
    if known.file is None:
        return f"none: a random start from seed {recipe.run.seed}"
    return f"{known.file.origin}, {known.missing}" if known.missing else known.file.origin


def _head(chosen: Chosen[Any], network: Network) -> Head:
    name = chosen.common.name
    return Head(name, chosen.part.name, chosen.common.target, len(network.targets[name].classes))


def _device(recipe: Recipe) -> str:
    """A device that is not here is no reason to refuse: the run may be meant for another machine."""
    try:
        return str(find_device(recipe.device.common.device))
    except DeviceError as error:
        return f"not here: {error.problems[0].what}"


def _phase(phase: Phase, sizes: Mapping[str, int]) -> PhaseRates:
    plan = phase.plan
    trained = sum(size for name, size in sizes.items() if plan.rates[name])
    return PhaseRates(phase.first, phase.end, trained, len(plan.fixed_norms), len(plan.tracked_norms), dict(plan.rates))


def _stages(model: nn.Module, layout: Layout, phases: Sequence[Phase], sizes: Mapping[str, int]) -> list[Stage]:
    """The stages, input side first, and the heads."""
    modules = frozenset(name for name, _ in model.named_modules())
    found = []
    for prefix in (*layout.stages, *layout.heads):
        own = {name: size for name, size in sizes.items() if under(name, prefix)}
        doing = tuple(_doing(prefix, own, phase.plan, prefix in modules) for phase in phases)
        found.append(Stage(short(layout, prefix), sum(own.values()), doing))
    return found


def _doing(prefix: str, sizes: Mapping[str, int], plan: Plan, has_mode: bool) -> Doing:
    rates = {plan.rates[name] for name in sizes}
    in_order = sorted(rates, key=lambda rate: -1.0 if rate is None else rate)
    trained = sum(size for name, size in sizes.items() if plan.rates[name])
    fixed, tracked = (sum(under(norm, prefix) for norm in norms) for norms in (plan.fixed_norms, plan.tracked_norms))
    held = any(under(prefix, still) for still in plan.still)
    mode = ("eval" if held else "train") if has_mode else None
    return Doing(tuple(in_order), trained, fixed, tracked, mode)


def _curve(recipe: Recipe, steps_per_epoch: int) -> Curve:
    total, schedule, lr = recipe.run.epochs * steps_per_epoch, recipe.schedule, recipe.optim.lr
    places = [round(column * (total - 1) / (COLUMNS - 1)) for column in range(COLUMNS)]
    warm = round(schedule.warmup * total)  # a peak may be narrower than a column
    looked = {*places, *(step for step in (warm - 1, warm, warm + 1) if 0 <= step < total)}
    rates = {step: lr * factor(schedule, step, total) for step in sorted(looked)}
    peak_step = max(rates, key=lambda step: rates[step])
    return Curve(total, tuple(rates[place] for place in places), rates[peak_step], peak_step, rates[total - 1])
