"""The layout of a model: what a freeze policy may know of it."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from zoo.errors import ZooError
from zoo.freeze.names import in_heads, longest, under
from zoo.registry.contracts import Depths, Layout


def make_layout(
    model: nn.Module,
    stages: Sequence[str],
    heads: Sequence[str],
    *,
    depths: Depths | None = None,
    root: str = "",
    epochs: int = 0,
) -> Layout:
    """Return the layout of a model whose backbone has the prefixes `stages` and whose heads are the prefixes `heads`.

    `depths` are those of the backbone by its own names; a stage counts as a layer when they are None, or when they do
    not know a parameter. ZooError: a parameter lies in no stage and no head.
    """
    names = tuple(name for name, _ in model.named_parameters(remove_duplicate=False))
    layout = Layout(names, tuple(stages), tuple(heads), norms=_norm_parameters(model), root=root, epochs=epochs)
    outside = [name for name in names if not in_heads(layout, name) and longest(name, stages) is None]
    if outside:
        raise ZooError(f"{outside[0]} lies in no stage and no head", hint="name stages that cover the whole backbone")
    known = depths.of if depths else {}
    if any(name.removeprefix(root) not in known for name in names if not in_heads(layout, name)):
        return replace(layout, depths=_stage_depths(layout))
    deepest = depths.heads if depths else 0
    return replace(
        layout, depths={name: deepest if in_heads(layout, name) else known[name.removeprefix(root)] for name in names}
    )


def statistics(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that keep running statistics, by name: every batch norm and instance norm that does, of torch,
    timm or torchvision, trainable or not."""
    return {name: module for name, module in model.named_modules() if keeps_statistics(module)}


def keeps_statistics(module: nn.Module) -> bool:
    """Return whether a layer has running statistics of its own, found by their buffers: classes differ by library."""
    return any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))


def can_track(module: nn.Module) -> bool:
    """Return whether such a layer can update its statistics: a FrozenBatchNorm2d cannot."""
    return isinstance(module, _NormBase)


def _norm_parameters(model: nn.Module) -> frozenset[str]:
    """Libraries have norms of their own that share no base class; all call them so."""
    return frozenset(
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        if any("Norm" in base.__name__ for base in type(module).__mro__)
        for name, _ in module.named_parameters(recurse=False)
    )


def _stage_depths(layout: Layout) -> dict[str, int]:
    places = {stage: place for place, stage in enumerate(layout.stages)}
    return {
        name: next((place for stage, place in places.items() if under(name, stage)), len(places))
        for name in layout.parameters
    }
