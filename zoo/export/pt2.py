"""model.pt2: torch.export's graph, with a batch of any size."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from zoo.errors import ZooError
from zoo.export.graph import Graph, first_line
from zoo.registry.builtin.export import Pt2Options
from zoo.registry.contracts import Described, Exportable


def build(options: Pt2Options) -> "Pt2":
    """Return the exporter."""
    return Pt2(options, ".pt2")


class Pt2(Graph):
    """The network as `torch.export` captures it: operations and shapes, no Python."""

    def write(self, model: Exportable, folder: Path) -> tuple[Path, ...]:
        """Write the graph. ZooError: see `check`; or torch cannot capture the network."""
        whole, path = self.whole(self.network(model), model.input), self.path(folder)
        dynamic = {0: Dim.AUTO, **({2: Dim.DYNAMIC, 3: Dim.DYNAMIC} if self.takes == "decoded" else {})}
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                program = torch.export.export(whole, (self.example(model),), dynamic_shapes=(dynamic,))
            except Exception as error:  # each architecture has its own way to fail
                what = f"{model.native.identity} cannot be captured: {type(error).__name__}: {first_line(error)}"
                raise ZooError(what, where="[[export]] use = 'pt2'", hint='export "torchscript"') from error
            torch.export.save(program, path)
        return (path,)

    def read(self, model: Described, folder: Path) -> Callable[[Tensor], Tensor]:
        """Return the graph as a module."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(self.path(folder))
        return program.module()

    def code(self, model: Described) -> str:
        """Return torch's call."""
        return f'import torch\n\nnetwork = torch.export.load("{self.file}").module()'
