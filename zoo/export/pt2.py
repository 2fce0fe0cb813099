"""model.pt2: torch.export's graph, with a batch of any size."""

import json
import pickle
import warnings
from collections.abc import Callable
from io import BytesIO
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
            _forget_places(program)
            torch.export.save(program, path)
        return (path,)

    def read(self, model: Described, folder: Path) -> Callable[[Tensor], Tensor]:
        """Return the graph as a module. ZooError: the file holds more than a graph and tensors."""
        _require_plain(self.path(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(self.path(folder))
        return program.module()

    def code(self, model: Described) -> str:
        """Return torch's call."""
        return f'import torch\n\nnetwork = torch.export.load("{self.file}").module()'


def _forget_places(program: torch.export.ExportedProgram) -> None:
    """Take out where on this machine each operation was written: no file tells it, and two machines write the same."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)


def _require_plain(path: Path) -> None:
    """Raise ZooError unless the archive holds a graph as JSON and plain tensors: torch would unpickle anything else."""
    try:
        reader = torch._C.PyTorchFileReader(str(path))
        names = set(reader.get_all_records())
        odd = sorted(name for name in names if name.startswith("data/aotinductor"))
        if not any(name.startswith("models/") and name.endswith(".json") for name in names):
            odd.append("no graph")
        odd += [name for name in sorted(names) if _is_pickled(name, reader.get_record(name))]
    except (RuntimeError, ValueError, KeyError, AttributeError, pickle.UnpicklingError) as error:
        raise _not_plain(path, first_line(error)) from error
    if odd:
        raise _not_plain(path, ", ".join(odd[:3]))


def _is_pickled(name: str, record: bytes) -> bool:
    """Whether a record would be unpickled freely. UnpicklingError: it holds other than tensors."""
    if name.endswith("_config.json"):
        return any(value.get("use_pickle") for value in json.loads(record)["config"].values())
    if name.endswith(".pt"):
        torch.load(BytesIO(record), map_location="cpu", weights_only=True)
    return False


def _not_plain(path: Path, what: str) -> ZooError:
    text = f"{path.name} is no plain graph, and is not opened: {what}"
    return ZooError(text, where=str(path), hint="export the run again; such a file can run code")
