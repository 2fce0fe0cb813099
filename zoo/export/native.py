"""The architecture's own library has the model: what every exporter of plain weights asks for and gives."""

from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor, nn

from zoo.errors import WeightsError, ZooError
from zoo.registry.contracts import Described, Exportable

TOLERANCES = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference of a logit, relative to the largest: rounding of the sums for float32 (8-bit and 11-bit mantissas
for the others, over a network's depth)."""

GRAPH_TOLERANCE = 1e-4
"""The same for graphs: other kernels, other orders of the same sums, batch norms folded."""


def check_native(model: Exportable) -> None:
    """Raise ZooError for several heads, and for an architecture or head that is not one linear classifier."""
    if len(model.heads) > 1:
        what = f"native names hold one classifier, and there are the heads {', '.join(model.heads)}"
        raise ZooError(what, where="[[export]]", hint="train one head, or write `export = []` for no artefact")
    if f"{model.native.classifier}.weight" not in model.state:
        what = f"{model.native.identity} has no single linear classifier that this head could be written as"
        hint = "choose an architecture that has one, or write `export = []` for no artefact"
        raise ZooError(what, where="[[export]]", hint=hint)


def bring_home(state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Return the tensors on the CPU, contiguous, each with memory of its own; floating-point ones as `dtype`."""
    return {name: _home(tensor, dtype) for name, tensor in state.items()}


def _home(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    home = tensor.detach().cpu()
    return home.to(dtype if dtype and home.is_floating_point() else home.dtype, copy=True).contiguous()


def serialise(
    state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, dtype: torch.dtype | None = None
) -> bytes:
    """Return a safetensors file's bytes: the same for the same tensors, whatever their order; see `bring_home`."""
    return save(bring_home(state, dtype), dict(metadata) if metadata else None)


def build_network(model: Exportable) -> nn.Module:
    """Return the library's own model with the weights in eval mode, on the CPU in float32. ZooError: as `check`."""
    check_native(model)
    return loaded(model, bring_home(model.state, torch.float32))


def loaded(model: Described, state: Mapping[str, Tensor]) -> nn.Module:
    """Return the library's own model with these tensors, strictly. WeightsError: they are not its own."""
    network = model.native.build(len(model.classes))
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        what = f"the weights are not those of {model.native.identity}: {str(error).splitlines()[-1].strip()}"
        raise WeightsError(what, hint="export the run again") from error
    return network.eval()


def native_code(model: Described, *, imports: str, load: str) -> str:
    """Return Python that builds the library's own model and loads it; `load` is the state dict's expression.

    A model that gives more than logits gets a hook that takes them out, so that `network` is a function to logits.
    """
    taken = model.native.logits
    lines = [
        f"import {model.native.library}",
        imports,
        "",
        f"network = {model.native.call(len(model.classes))}",
        f"network.load_state_dict({load}, strict=True)",
    ]
    if taken:
        lines.append(f"network.register_forward_hook(lambda network, images, output: output.{taken})")
    return "\n".join([*lines, "network.eval()"])
