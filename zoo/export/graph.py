"""What the exporters of graphs have in common: the network, folded or not, with or without its preprocessing."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.export.decoded import Decoded, check_spec
from zoo.export.fold import fold_batchnorm
from zoo.export.native import GRAPH_TOLERANCE, build_network, check_native
from zoo.registry.builtin.export import GraphOptions
from zoo.registry.contracts import Described, Exportable, InputSpec, Native

EXAMPLES = 2
"""Images in the batch that a graph is recorded with; a batch of one would be taken for a constant."""


class Graph:
    """A graph of torch's own; `stem` and `suffix` make its file's name."""

    tolerance = GRAPH_TOLERANCE
    max_drop: float | None = None

    def __init__(self, options: GraphOptions, suffix: str) -> None:
        self._inside = options.preprocess
        self._fold = options.fold_bn
        self.takes: Literal["normalised", "decoded"] = "decoded" if options.preprocess else "normalised"
        self.file = f"model{'.decoded' if options.preprocess else ''}{suffix}"

    def runtime(self, native: Native) -> str:
        """Plain torch: the graph needs no model code."""
        return "torch"

    def check(self, model: Exportable) -> None:
        """Raise ZooError: see `check_native`, and with `preprocess` `check_spec`."""
        check_native(model)
        if self._inside:
            check_spec(model.input)

    def network(self, model: Exportable) -> nn.Module:
        """Return the network to record, which takes normalised images. ZooError: see `check`."""
        self.check(model)
        network = build_network(model)
        if self._fold:
            fold_batchnorm(network, normalised_example(model.input))
        return network.requires_grad_(False)

    def whole(self, network: nn.Module, spec: InputSpec) -> nn.Module:
        """Return the network, with its preprocessing in front where that is asked for."""
        return Decoded(network, spec).eval() if self._inside else network

    def example(self, model: Described) -> Tensor:
        """Return a batch that the whole takes."""
        if not self._inside:
            return normalised_example(model.input)
        height, width = model.input.size
        return torch.zeros(EXAMPLES, 3, 2 * height + 3, 2 * width + 7, dtype=torch.uint8)

    def path(self, folder: Path) -> Path:
        """Return the file."""
        return folder / self.file


def normalised_example(spec: InputSpec) -> Tensor:
    """Return a batch as the preprocessing gives it, always the same."""
    return torch.randn(EXAMPLES, 3, *spec.size, generator=torch.Generator().manual_seed(0))


def first_line(error: Exception) -> str:
    """Return what an exception says, without what torch adds below."""
    return (str(error).strip().splitlines() or [""])[0]
