"""Several models in one state dict, side by side: an encoder and its moving average, a student and its teacher."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from torch import Tensor

from zoo.errors import WeightsError, nearest
from zoo.weights.containers import ALIKE, AVERAGED, Asked, choose, several
from zoo.weights.names import unwrapped

TWINS = frozenset(
    {
        *("encoder_q", "encoder_k", "base_encoder", "momentum_encoder", "encoder", "target_encoder", "online_encoder"),
        *("student", "teacher", "online", "target", "online_network", "target_network", "online_net", "target_net"),
        *("model", "net", "backbone", "momentum_backbone", "backbone_momentum", "teacher_backbone", "student_backbone"),
        *AVERAGED,
    }
)
"""Attributes under which training code keeps a model beside a second one of the same shape."""
AROUND = (["model"], ["net"], ["network"], ["base_model"], ["0"])
"""Namespaces that may stand around both."""


def take_branch(
    tensors: Mapping[str, Tensor], target: Iterable[str], asked: Asked, path: Path
) -> tuple[Mapping[str, Tensor], dict[str, int], Asked]:
    """Return the tensors of the branch asked for, the elements of each key outside it, and what is still asked.

    A branch is what stands under one first segment, wrapper segments and a namespace around everything aside. Choosing
    one leaves out every key that is not in it (`queue`, `head`, the other model). Without a choice all tensors stay,
    unless two of `TWINS` hold the same names and shapes and the model, `target`, does not have both: WeightsError.
    """
    branches = _branches(tensors)
    twins = _twins(branches, tensors)
    name = choose(twins, asked) or (asked[0] if asked and asked[0] in branches else None)
    if name is not None:
        taken = {key: tensors[key] for key in branches[name].values()}
        outside = {key: value.numel() for key, value in tensors.items() if key not in taken}
        return taken, outside, asked[1:]
    wanted = {unwrapped(known).split(".")[0] for known in target}
    if len(twins) > 1 and not wanted.issuperset(twins):
        raise several(twins, asked, path, str(path))
    return tensors, {}, asked


def require_answered(asked: Asked, inside: str, keys: Collection[str], path: Path) -> None:
    """WeightsError when something is asked for that the file does not have."""
    averaged = any(part in AVERAGED for part in inside.split("."))
    if not asked or asked == ("ema" if averaged else "raw",):
        return
    there = f"only {inside}" if inside else "a state dict alone"
    first = {_bare(key, _shared(keys)).split(".")[0] for key in keys}
    hint = f"leave `which` out, or name a branch: {nearest(asked[0], first)}"
    raise WeightsError(f'which = "{".".join(asked)}", but {path.name} holds {there}', where=str(path), hint=hint)


def _branches(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, str]]:
    """Return, by first segment, the keys by what follows it."""
    branches: dict[str, dict[str, str]] = {}
    shared = _shared(tensors)
    for key in tensors:
        first, _, rest = _bare(key, shared).partition(".")
        branches.setdefault(first, {})[rest or key] = key
    return branches


def _shared(keys: Collection[str]) -> int:
    """Return how many namespaces stand around everything."""
    paths = [unwrapped(key).split(".") for key in keys]
    shared = 0
    while paths and len({path[shared] if len(path) > shared + 1 else "" for path in paths}) == 1:
        if paths[0][shared : shared + 1] not in AROUND:
            break
        shared += 1
    return shared


def _bare(key: str, shared: int) -> str:
    return ".".join(unwrapped(key).split(".")[shared:])


def _twins(branches: Mapping[str, Mapping[str, str]], tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the branches of known names that share at least half of their names and shapes with another."""
    shapes = {
        name: {(rest, tuple(tensors[key].shape)) for rest, key in keys.items()}
        for name, keys in branches.items()
        if name in TWINS
    }
    return [
        name
        for name, own in shapes.items()
        if any(len(own & other) >= ALIKE * len(own) for twin, other in shapes.items() if twin != name)
    ]
