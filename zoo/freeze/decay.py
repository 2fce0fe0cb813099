"""Which parameters weight decay shrinks: one rule, written here, and the exclusions that a recipe adds."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from zoo.errors import ZooError, nearest
from zoo.freeze.names import short
from zoo.registry.contracts import Layout


def decayed(model: nn.Module, layout: Layout, no_decay: Sequence[str] = ()) -> frozenset[str]:
    """Return the names of the parameters that are decayed while they train.

    Not biases, nor what has one dimension (norms), nor what the library's model asks to leave (position embeddings,
    class tokens), nor what a glob of `no_decay` matches; globs are over the backbone's own names. ZooError: one matches
    nothing.
    """
    own = {name: short(layout, name) for name in layout.parameters}
    for glob in no_decay:
        if not any(fnmatchcase(name, glob) for name in own.values()):
            what = f"optim.no_decay has {glob!r}, which matches no parameter"
            raise ZooError(what, where="[optim]", hint=nearest(glob, own.values()))
    asked = _asked(model)
    return frozenset(
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.dim() > 1
        and not name.endswith(".bias")
        and name not in asked
        and not any(fnmatchcase(own[name], glob) for glob in no_decay)
    )


def _asked(model: nn.Module) -> set[str]:
    """Names that a timm model asks to leave undecayed: position embeddings, class tokens, relative-position tables."""
    found: set[str] = set()
    for prefix, module in model.named_modules():
        listed: Callable[[], Iterable[str]] | None = getattr(module, "no_weight_decay", None)
        if callable(listed):
            found |= {f"{prefix}.{name}".lstrip(".") for name in listed()}
    return found
