"""What a checkpoint's values say of it: whether they are numbers at all, and whether they look trained."""

from collections.abc import Mapping
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.weights.ledger import Flag

FEW = 4  # vectors of which nothing can be said


class Extremes(NamedTuple):
    """The least and the greatest value of a tensor; NaN or Inf when anything in it is."""

    low: float
    high: float

    def are_numbers(self) -> bool:
        """Tell whether the tensor holds neither NaN nor Inf."""
        return isfinite(self.low) and isfinite(self.high)


def extremes(tensor: Tensor) -> Extremes | None:
    """Return the extremes of a tensor of floats, of the parts of complex ones; None of others, and of none at all.

    One pass over the values, and no mask as large as the tensor.
    """
    if tensor.numel() == 0 or not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    # Torch compares no numbers of 8 bits.
    low, high = torch.aminmax(plain.detach().float() if plain.element_size() == 1 else plain.detach())
    return Extremes(float(low), float(high))


def flag(name: str, value: Tensor, found: Extremes | None) -> Flag | None:
    """Return what is odd about a tensor for the model's `name`, None when nothing is; `found` are its extremes.

    All zeros or all equal: a weight (named so, or of two dimensions) of more than one element. Not positive: a running
    variance, of which batch norm takes the square root.
    """
    last = name.split(".")[-1]
    if found is None or value.is_complex():
        return None
    if last == "running_var":
        return Flag(name, "running_var <= 0") if found.low <= 0 else None
    if value.numel() == 1 or found.low != found.high or not (last == "weight" or value.dim() > 1):
        return None
    return Flag(name, "all zeros" if found.low == 0 else "all equal")


def flag_fresh(values: Mapping[str, Tensor], found: Mapping[str, Extremes | None]) -> list[Flag]:
    """Return a flag when a model's values look like a fresh initialisation: nothing of one dimension was ever moved.

    Biases, scales and running statistics start as one number repeated, and the first steps of any training change that.
    Models with fewer than `FEW` of them, or with random biases, cannot be told. `found` are the extremes by name.
    """
    vectors = [found[name] for name, value in values.items() if value.dim() == 1 and value.numel() > 1]
    known = [pair for pair in vectors if pair is not None]
    if len(known) < FEW or any(pair.low != pair.high for pair in known):
        return []
    return [Flag("the backbone", f"like a fresh initialisation: each of its {len(known)} vectors is all equal")]
