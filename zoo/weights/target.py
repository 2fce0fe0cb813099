"""What weights are loaded into."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Target:
    """A whole model by native names, on any device, meta included.

    `tensors` are the backbone's and, when it has a native form, the head's under `classifier`. `module` owns the
    backbone's names: how tensors of other shapes are adapted is read off it. `classes` are the head's, in order.
    `architecture` is `library/arch`, None when it is not known.
    """

    tensors: Mapping[str, Tensor]
    module: nn.Module = field(default_factory=nn.Module)
    classifier: str | None = None
    classes: tuple[str, ...] = ()
    architecture: str | None = None
