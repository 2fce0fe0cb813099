"""model.torchscript.pt: a traced graph that `torch.jit.load` opens in Python and C++."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.export.graph import Graph, first_line, normalised_example
from zoo.registry.builtin.export import TorchscriptOptions
from zoo.registry.contracts import Described, Exportable


def build(options: TorchscriptOptions) -> "Torchscript":
    """Return the exporter."""
    return Torchscript(options, ".torchscript.pt")


class Torchscript(Graph):
    """The network traced, its preprocessing (which knows sizes) scripted."""

    def write(self, model: Exportable, folder: Path) -> tuple[Path, ...]:
        """Write the graph. ZooError: see `check`; or the network cannot be traced."""
        network, path = self.network(model), self.path(folder)
        with _quietly(), torch.inference_mode():
            recorded = self._recorded(network, model)
            _save(torch.jit.freeze(recorded.eval(), optimize_numerics=False), path)
        return (path,)

    def _recorded(self, network: nn.Module, model: Exportable) -> torch.jit.ScriptModule:
        try:
            traced: Any = torch.jit.trace(network, normalised_example(model.input))  # type: ignore[no-untyped-call]
            whole = self.whole(traced, model.input)
            recorded: Any = traced if whole is traced else torch.jit.script(whole)
        except Exception as error:  # each architecture has its own way to fail
            what = f"{model.native.identity} cannot be traced: {type(error).__name__}: {first_line(error)}"
            raise ZooError(
                what, where="[[export]] use = 'torchscript'", hint='export "pt2" or "safetensors"'
            ) from error
        return recorded  # type: ignore[no-any-return]

    def read(self, model: Described, folder: Path) -> Callable[[Tensor], Tensor]:
        """Return the graph."""
        with _quietly():
            graph: Any = torch.jit.load(self.path(folder), map_location="cpu")  # type: ignore[no-untyped-call]
        return graph.eval()  # type: ignore[no-any-return]

    def code(self, model: Described) -> str:
        """Return torch's call."""
        return f'import torch\n\nnetwork = torch.jit.load("{self.file}", map_location="cpu")'


_COUNTED = re.compile(rb"___torch_mangle_\d+")
"""What torch puts into the name of a class that it has seen before, with a number that counts through the process."""


def _save(recorded: torch.jit.ScriptModule, path: Path) -> None:
    """Write the archive without what differs from time to time: the counter, and where the source's lines are."""
    draft = BytesIO()
    torch.jit.save(recorded, draft)
    draft.seek(0)
    reader, writer = torch._C.PyTorchFileReader(draft), torch._C.PyTorchFileWriter(str(path))
    for name in reader.get_all_records():
        if name.endswith(".debug_pkl") or name in ("version", ".data/serialization_id"):  # the writer has its own
            continue
        record = reader.get_record(name)
        if name.endswith((".py", "data.pkl")):
            record = _uncounted(record)
        writer.write_record(_uncounted(name.encode()).decode(), record, len(record))
    writer.write_end_of_file()


def _uncounted(text: bytes) -> bytes:
    return _COUNTED.sub(b"___torch_mangle_0", text)


@contextmanager
def _quietly() -> Iterator[None]:
    """Tracing warns of Python that becomes constant: what that changes, the comparison with the model finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
