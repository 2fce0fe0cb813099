"""What a run would take: memory, optimiser state, checkpoints, and features that are computed once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from torch.optim import Optimizer

from zoo.freeze.frontier import find_frontier
from zoo.freeze.plan import Phase
from zoo.freeze.still import follow
from zoo.recipe import Recipe
from zoo.registry.contracts import DeviceSettings, FeatureSpec
from zoo.run.network import Network
from zoo.train.loop import count_pieces
from zoo.train.memory import Memory, estimate_memory
from zoo.train.model import Model
from zoo.train.optim import enter, make_optimizer
from zoo.train.route import BUDGET, can_keep

FLOAT = 4
"""Bytes of a feature in fp32."""


@dataclass(frozen=True)
class Features:
    """What a phase need not compute in every step.

    `stages` give the same output for the same image; `whole` when they are the backbone, whose output has `shape` for
    an image (empty where the backbone does not say it). `kept` says that it is computed once for all `images` (None
    when nobody knows how many), in `bytes` of memory, `why` why it is not kept.
    """

    stages: tuple[str, ...]
    whole: bool = False
    kept: bool = False
    why: str = ""
    shape: tuple[int, ...] = ()
    images: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class StepMemory:
    """The memory of a step in a phase (from 0), of `images` at a time; None where it cannot be told, and `why`.

    `average` are the bytes of the moving average.
    """

    phase: int
    images: int
    memory: Memory | None
    average: int = 0
    why: str = ""

    @property
    def peak(self) -> int | None:
        """The most bytes that are live at once, the moving average included."""
        return self.memory.peak + self.average if self.memory else None


@dataclass(frozen=True)
class Holding:
    """What the optimiser holds: parameters that train in some phase or are at rate zero, and those that are decayed.

    `state` are the bytes of its state once everything has had a gradient; None where it cannot be told.
    """

    use: str
    groups: int
    parameters: int
    decayed: int
    weight_decay: float
    state: int | None


@dataclass(frozen=True)
class CheckpointSize:
    """Bytes of a checkpoint's tensors, and how many checkpoints lie in the run's folder at most."""

    weights: int
    optimizer: int | None
    average: int
    most: int

    @property
    def total(self) -> int | None:
        """Bytes of one checkpoint."""
        return None if self.optimizer is None else self.weights + self.optimizer + self.average


@dataclass(frozen=True)
class Costs:
    """All that a run would take: what each phase computes once, and memory for the phases that `foresee` names."""

    optimizer: Holding
    features: tuple[Features, ...]
    memory: tuple[StepMemory, ...]
    checkpoint: CheckpointSize


def foresee(
    recipe: Recipe, network: Network, phases: Sequence[Phase], size: tuple[int, int], images: tuple[int, int] | None
) -> Costs:
    """Return what a run of a network on the meta device would take, with `images` (train, val) of `size` (H, W).

    Memory is told for the first phase, and for the one with the most gradients when that is another; the model is left
    in the last of them. ZooError: see `make_optimizer`.
    """
    optimizer = make_optimizer(recipe.optim, network.model, phases)
    features = _features(recipe, network, phases, size, sum(images) if images else None)
    memory = tuple(
        _step_memory(recipe, network.model, optimizer, place, size, _images(recipe, features[place], images))
        for place in _enter_each(network.model, optimizer, phases)
    )
    holding = _holding(recipe, optimizer, phases, memory)
    weights = sum(tensor.nbytes for tensor in network.model.state_dict().values())
    average = weights if recipe.run.ema else 0
    checkpoint = CheckpointSize(weights, holding.state, average, recipe.checkpoint.keep + 1)
    return Costs(holding, features, memory, checkpoint)


def _features(
    recipe: Recipe, network: Network, phases: Sequence[Phase], size: tuple[int, int], images: int | None
) -> tuple[Features, ...]:
    layout, data = network.layout(recipe.run.epochs), recipe.data.common
    keep = can_keep(data)
    why = "" if keep else 'data.cache = "off"' if data.cache != "auto" else "images change from epoch to epoch"
    found = []
    for phase in phases:
        frontier = find_frontier(layout, phase.plan)
        stages = tuple(stage.removeprefix(layout.root) for stage in frontier.stages)
        shape = _shape(network.backbone.spec, size)
        found.append(_whole(stages, shape, images, why) if frontier.whole else Features(stages))
    return tuple(found)


def _whole(stages: tuple[str, ...], shape: tuple[int, ...], images: int | None, why: str) -> Features:
    total = images * FLOAT * prod(shape) if images and shape else None
    if not why and total is not None and total > BUDGET:
        why = f"they would take {total / 1e9:.1f} GB, and {BUDGET / 1e9:.1f} GB is the most"
    return Features(stages, True, not why, why, shape, images, total)


def _shape(spec: FeatureSpec, size: tuple[int, int]) -> tuple[int, ...]:
    """The shape of an image's features; empty where the backbone does not say it."""
    if spec.pooled:
        return (spec.channels,)
    return (spec.channels, *(-(-side // spec.stride) for side in size)) if spec.stride else ()


def _enter_each(model: Model, optimizer: Optimizer, phases: Sequence[Phase]) -> Iterator[int]:
    """Yield the places of the phases whose memory is told, the model and the optimiser in each of them."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    gradients = [sum(size for name, size in sizes.items() if phase.plan.rates[name] is not None) for phase in phases]
    largest = gradients.index(max(gradients))
    for place in dict.fromkeys((0, largest)):
        model.train()
        follow(model, phases[place].plan)
        enter(optimizer, place)
        yield place


def _images(recipe: Recipe, features: Features, images: tuple[int, int] | None) -> tuple[int, int]:
    """How many images are in the model at a time, and how many times a step; kept features come in whole batches."""
    batch = min(recipe.run.batch_size, images[0]) if images else recipe.run.batch_size
    pieces = 1 if features.kept else count_pieces(batch, recipe.run.batch_size, recipe.run.accumulate)
    return -(-batch // pieces), pieces


def _step_memory(
    recipe: Recipe, model: Model, optimizer: Optimizer, place: int, size: tuple[int, int], images: tuple[int, int]
) -> StepMemory:
    settings, (count, pieces) = DeviceSettings(**recipe.device.common.model_dump()), images
    try:
        memory = estimate_memory(model, optimizer, (count, 3, *size), settings, pieces)
    except Exception as error:  # noqa: BLE001  whatever a network raises for images that it does not take
        return StepMemory(place, count, None, why=str(error).partition("\n")[0] or type(error).__name__)
    return StepMemory(place, count, memory, memory.weights if recipe.run.ema else 0)


def _holding(recipe: Recipe, optimizer: Optimizer, phases: Sequence[Phase], memory: Sequence[StepMemory]) -> Holding:
    decayed = frozenset[str]().union(*(phase.plan.decayed for phase in phases))
    sizes = {
        name: parameter.numel()
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    shrunk = sum(size for name, size in sizes.items() if name in decayed) if recipe.optim.weight_decay else 0
    states = [found.memory.optimizer for found in memory if found.memory]
    state = max(states, default=None)
    return Holding(
        recipe.optim.use, len(optimizer.param_groups), sum(sizes.values()), shrunk, recipe.optim.weight_decay, state
    )
