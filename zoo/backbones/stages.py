"""Stages: a backbone's parameters in named groups, input side first."""

from torch import nn

# What libraries call the container of a trunk's blocks.
_TRUNKS = frozenset({"blocks", "features", "layers", "levels", "stages"})


def find_stages(module: nn.Module) -> tuple[str, ...]:
    """Return prefixes of `module`'s parameter names which together cover every parameter exactly once.

    A prefix p covers the name p itself and the names that start with p + ".". The root's own parameters come first,
    each a stage; then the children in order. A container of blocks ("blocks", "stages", …, or any that holds more than
    half of all elements) counts as its children: "blocks.0", "blocks.1". Numbered ones ("layer4") stay whole. A
    wrapper counts as its children too: a module that holds more than half and has such a container somewhere below it.
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
    return frozenset(name for child, below in module.named_children() for name in _open(child, child, below, half))


def _open(path: str, name: str, module: nn.Module, half: float) -> list[str]:
    """Return `path` where `module` is a container, and the containers in it where it is a wrapper around some.

    A wrapper holds more than half: `encoder` around torchvision's `encoder.layers`, or the `resnet` around the
    `resnet.encoder.stages` of transformers.
    """
    if _is_trunk(name, module, half):
        return [path]
    if _count(module) <= half or isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return []
    inner = [found for last, below in module.named_children() for found in _open(f"{path}.{last}", last, below, half)]
    return [path, *inner] if inner else []


def _is_trunk(name: str, module: nn.Module, half: float) -> bool:
    if not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False
    return name in _TRUNKS or (not name[-1].isdigit() and _count(module) > half)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
