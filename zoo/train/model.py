"""The model of a run: one backbone, and heads by name on its features."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.registry.contracts import Backbone, Head

BACKBONE = "backbone"


class Model(nn.Module):
    """A backbone and its heads. Names are `backbone.<native name>` and `heads.<head>.<name>`.

    Maps normalised images (B, 3, H, W) to {head: logits (B, K)}.
    """

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        groups: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        """Take the heads' weights in the loss, and `groups`: which class of a head each of the data's classes is."""
        super().__init__()
        self.backbone = backbone.module
        self.heads = _named(heads)
        self._weights = dict(weights)
        self._sizes = {name: max(places) + 1 for name, places in (groups or {}).items()}
        for name, places in (groups or {}).items():
            self.register_buffer(_groups(name), torch.tensor(places), persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return {head: logits (B, K)}."""
        logits: dict[str, Tensor] = self.heads(self.backbone(images))
        return logits

    def loss(self, logits: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """Return the weighted sum of the heads' losses, unreduced (B,)."""
        losses = [
            self._weights[name] * head.loss(logits[name], self.target(name, target))
            for name, head in self._heads().items()
        ]
        return sum(losses[1:], start=losses[0])

    def target(self, head: str, target: Tensor) -> Tensor:
        """Return what a head is to predict, for the data's class indices (B,) or class probabilities (B, K)."""
        places = dict(self.named_buffers(recurse=False)).get(_groups(head))
        if places is None:
            return target
        if not target.is_floating_point():
            return places[target]
        shares = target.new_zeros(len(target), self._sizes[head])
        return shares.index_add_(1, places, target)

    def _heads(self) -> dict[str, Head]:
        return dict(self.heads.items())  # type: ignore[arg-type]

    def head(self, name: str) -> Head:
        """Return a head by name."""
        return self._heads()[name]


class Heads(nn.ModuleDict):
    """Heads by name. Maps features to {head: logits (B, K)}."""

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return {head: logits (B, K)}."""
        return {name: head(features) for name, head in self.items()}


def _groups(head: str) -> str:
    return f"groups_of_{head}"


def _named(heads: Mapping[str, nn.Module]) -> Heads:
    try:
        return Heads(heads)
    except KeyError as error:  # "items", "train": what a module has already
        what = f"a head cannot have this name: {error.args[0]}"
        raise ZooError(what, where="head.name", hint="choose another") from error


def native_names(model: Model, backbone: Backbone, head: str) -> dict[str, str]:
    """Return {native name: the model's name} of every parameter and buffer that the backbone's library has too.

    The head's tensors stand under the native classifier; they are left out when it or the head has no native form.
    """
    prefix = f"{BACKBONE}."
    names = {name.removeprefix(prefix): name for name in model.state_dict() if name.startswith(prefix)}
    if backbone.native.classifier is not None:
        for own, native in model.head(head).native_names().items():
            names[f"{backbone.native.classifier}.{native}"] = f"heads.{head}.{own}"
    return names


def native_state(model: Model, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the model's tensors (not copied) under native names."""
    state = model.state_dict()
    return {native: state[name] for native, name in names.items()}
