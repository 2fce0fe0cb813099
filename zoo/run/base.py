"""The tensors that a run's training started from, made again from its recipe."""

from collections.abc import Mapping

from torch import Tensor

from zoo.errors import WeightsError
from zoo.recipe import Recipe
from zoo.registry.contracts import InputSpec, WeightsFile
from zoo.run.network import build_backbone, make_network
from zoo.weights.loading import load_state
from zoo.weights.places import weights_request


def base_state(
    recipe: Recipe, spec: InputSpec, classes: tuple[str, ...], file: WeightsFile | None = None
) -> Mapping[str, Tensor]:
    """Return them under native names: backbone and head as initialised, the weights loaded, before any step.

    `classes` are the data's. `file` stands for the recipe's own weights. WeightsError: they are not to be had, or do
    not fit.
    """
    network = make_network(recipe, build_backbone(recipe, spec.size), classes)
    native = network.backbone.native
    if file is None:
        found: WeightsFile | None = recipe.weights.build(weights_request(native, recipe.path))
        if found is None:
            raise WeightsError("the recipe has no base weights", where="[weights]")
        file = found
    load_state(network.target(), file, recipe.weights.common)
    return network.native_state()
