"""No weights: a random start."""

from zoo.registry.contracts import WeightsFile, WeightsRequest
from zoo.registry.parts import NoOptions


def build(options: NoOptions, request: WeightsRequest) -> WeightsFile | None:
    """Return None: the model keeps the values that its architecture draws."""
    return None
