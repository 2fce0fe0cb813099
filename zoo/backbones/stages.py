"""Stages: a backbone's parameters in named groups, input side first."""

from torch import nn

# What libraries call the container of a trunk's blocks.
_TRUNKS = frozenset({"blocks", "features", "layers", "levels", "stages"})


def find_stages(module: nn.Module) -> tuple[str, ...]:
    """Return prefixes of `module`'s parameter names which together cover every parameter exactly once.

    A prefix p covers the name p itself and the names that start with p + ".". The root's own parameters come first,
    each a stage; then the children in order. A container of blocks ("blocks", "stages", …, or any that holds more than
    half of all elements) counts as its children: "blocks.0", "blocks.1". Numbered ones ("layer4") stay whole.
    """
    opened = _find_containers(module)
    return tuple(dict.fromkeys(_stage_of(name, opened) for name, _ in module.named_parameters()))


def _stage_of(name: str, opened: frozenset[str]) -> str:
    path = name.split(".")
    length = 1
    while ".".join(path[:length]) in opened:
        length += 1
    return ".".join(path[:length])


def _find_containers(module: nn.Module) -> frozenset[str]:
    """Return the names of the modules whose children are stages, the root aside."""
    half = _count(module) / 2
    found: set[str] = set()
    for name, child in module.named_children():
        inner = _find_trunks(child, half)
        if _is_trunk(name, child, half):
            found.add(name)
        elif inner and _count(child) > half:  # a wrapper, such as `encoder` around torchvision's `encoder.layers`
            found |= {name, *(f"{name}.{trunk}" for trunk in inner)}
    return frozenset(found)


def _find_trunks(module: nn.Module, half: float) -> list[str]:
    return [name for name, child in module.named_children() if _is_trunk(name, child, half)]


def _is_trunk(name: str, module: nn.Module, half: float) -> bool:
    if not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False
    return name in _TRUNKS or (not name[-1].isdigit() and _count(module) > half)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
