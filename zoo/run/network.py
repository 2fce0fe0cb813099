"""Build the network of a recipe: its backbone, its heads, and what they are called natively."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from zoo.data.targets import NamedTarget, named_targets
from zoo.freeze.layout import make_layout
from zoo.recipe import Recipe
from zoo.registry.contracts import Adapter, Backbone, Exportable, InputSpec, Layout, TargetSpec, WeightsFile
from zoo.registry.parts import FreezePart
from zoo.seeds import derive
from zoo.shards import is_sharded
from zoo.train.model import BACKBONE, Model, native_names, native_state
from zoo.weights.target import Target


@dataclass(frozen=True)
class Network:
    """A model, the backbone it was built from, and what its heads predict."""

    model: Model
    backbone: Backbone
    data_classes: tuple[str, ...]
    targets: Mapping[str, NamedTarget]
    """What each head predicts."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The first head's classes."""
        return next(iter(self.targets.values())).classes

    @property
    def stages(self) -> tuple[str, ...]:
        """The backbone's stages as the model names them."""
        return tuple(f"{BACKBONE}.{stage}" for stage in self.backbone.stages)

    def layout(self, epochs: int) -> Layout:
        """Return what a freeze policy may know of the model, and the run's length."""
        heads = [f"heads.{name}" for name in self.model.heads]
        depths = self.backbone.depths
        return make_layout(self.model, self.stages, heads, depths=depths, root=f"{BACKBONE}.", epochs=epochs)

    @cached_property
    def names(self) -> dict[str, str]:
        """{native name: the model's name}, with the first head as the native classifier."""
        return native_names(self.model, self.backbone, next(iter(self.model.heads)))

    def native_state(self) -> dict[str, Tensor]:
        """Return the model's tensors (not copied) under native names."""
        return native_state(self.model, self.names)

    def target(self) -> Target:
        """Return the model as weights are loaded into it."""
        native = self.backbone.native
        module = self.backbone.module
        return Target(self.native_state(), module, native.classifier, self.classes, native.identity)

    def exportable(self, spec: InputSpec) -> Exportable:
        """Return the model as exporters take it, with the preprocessing `spec`."""
        return Exportable(
            native=self.backbone.native,
            input=spec,
            classes=self.classes,
            state=self.native_state(),
            heads=tuple(self.model.heads),
        )


def image_size(recipe: Recipe) -> tuple[int, int] | None:
    """Return the recipe's image size as (height, width), or None when it leaves it to the weights."""
    size = recipe.data.common.image_size
    return (size, size) if isinstance(size, int) else size


def build_backbone(recipe: Recipe, size: tuple[int, int] | None) -> Backbone:
    """Return the recipe's backbone, freshly initialised from the run's seed, for images of `size` (height, width)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.run.seed, "init", "backbone"))
        backbone: Backbone = recipe.backbone.build(size)
    return backbone


def input_spec(recipe: Recipe, backbone: Backbone, file: WeightsFile | None) -> InputSpec:
    """Return the preprocessing: what the weights say, else the architecture; at the recipe's size when it names one."""
    spec = file.input if file and file.input else backbone.input
    return replace(spec, size=image_size(recipe) or spec.size)


def make_network(recipe: Recipe, backbone: Backbone, classes: tuple[str, ...]) -> Network:
    """Return the backbone with the recipe's heads for the data's `classes`, initialised from the run's seed.

    DataError: the recipe groups the classes into targets, and they do not fit.
    """
    known = named_targets(recipe.data.common.targets, classes)
    targets = {head.common.name: known[head.common.target] for head in recipe.heads}
    heads = {}
    with torch.random.fork_rng(devices=[]):
        for head in recipe.heads:
            torch.manual_seed(derive(recipe.run.seed, "init", "head", head.common.name))
            heads[head.common.name] = head.build(backbone.spec, TargetSpec(targets[head.common.name].classes))
    weights = {head.common.name: head.common.weight for head in recipe.heads}
    groups = {name: target.of for name, target in targets.items() if target.of is not None}
    return Network(Model(backbone, heads, weights, groups), backbone, classes, targets)


def alone(recipe: Recipe, network: Network, spec: InputSpec) -> nn.Module:
    """Return a network of its own on the CPU, in eval mode: normalised images (B, 3, H, W) to logits (B, K).

    The logits are the first head's. It is built anew, for a deep copy of a parametrised module shares its class, and
    has the model's weights of now, adapters folded in; what is sharded cannot be had by one process, so first values
    stand in its place. The random state is left as it was.
    """
    built = make_network(recipe, build_backbone(recipe, spec.size), network.data_classes)
    adapter = attach_adapter(recipe, built)
    state = network.model.state_dict()
    if not any(map(is_sharded, state.values())):
        built.model.load_state_dict(state)
    if adapter is not None:
        adapter.merge(built.model)
    head = next(iter(built.model.heads.values()))
    return nn.Sequential(OrderedDict(backbone=built.model.backbone, head=head)).eval()


def attach_adapter(recipe: Recipe, network: Network) -> Adapter | None:
    """Add to the model what the recipe's freeze policy adds, initialised from the run's seed; None: it adds nothing.

    Native names may be asked of the model only when it is merged. ZooError: there is nothing to add them to.
    """
    part = recipe.freeze.part
    adapter = part.build_adapter(recipe.freeze.options) if isinstance(part, FreezePart) else None
    if adapter is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(recipe.run.seed, "init", "adapter"))
            adapter.attach(network.model, network.layout(recipe.run.epochs))
    return adapter
