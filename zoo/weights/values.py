"""What a checkpoint's values say of it: whether they are numbers at all, and whether they look trained."""

import torch
from torch import Tensor

from zoo.weights.ledger import Flag


def has_only_numbers(tensor: Tensor) -> bool:
    """Tell whether a tensor holds neither NaN nor Inf."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return True
    # The extremes are NaN or Inf when anything is; no mask as large as the tensor is needed.
    return bool(torch.isfinite(torch.stack(_extremes(tensor))).all())


def flag(name: str, value: Tensor) -> Flag | None:
    """Return what is odd about a tensor for the model's `name`, None when nothing is.

    All zeros or all equal: a weight (named so, or of two dimensions) of more than one element. Not positive: a running
    variance, of which batch norm takes the square root.
    """
    last = name.split(".")[-1]
    if value.numel() == 0 or not value.is_floating_point():
        return None
    low, high = _extremes(value)
    if last == "running_var":
        return Flag(name, "running_var <= 0") if bool(low <= 0) else None
    if value.numel() == 1 or bool(low != high) or not (last == "weight" or value.dim() > 1):
        return None
    return Flag(name, "all zeros" if bool(low == 0) else "all equal")


def _extremes(tensor: Tensor) -> tuple[Tensor, Tensor]:
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    # Torch compares no numbers of 8 bits.
    low, high = torch.aminmax(plain.float() if plain.element_size() == 1 else plain)
    return low, high
