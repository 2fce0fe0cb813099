"""Tensors paired one by one in their order, for files whose names mean nothing to the model.

Order alone is weak evidence: two layers of one shape that changed places would load and be wrong. So the file's own
names must bear it out, or the file is refused: what is numbered ascends, modules of one kind list their tensors alike,
a tensor's last name ("gamma") always means the same one here ("weight"), and of two neighbours of one shape something
must tell which is which.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from zoo.errors import WeightsError
from zoo.weights.names import Match, unwrapped

RULE = 'align = "order"'
MEANINGS = {
    **{last: last for last in ("weight", "bias", "running_mean", "running_var")},
    **dict.fromkeys(("gamma", "scale", "w"), "weight"),
    **dict.fromkeys(("beta", "offset", "b"), "bias"),
    **dict.fromkeys(("moving_mean", "mean"), "running_mean"),
    **dict.fromkeys(("moving_variance", "moving_var", "variance", "var"), "running_var"),
}
"""What a tensor's last name means, in torch's words."""
HINT = "map the names with `rename` instead, or name the architecture that the file was made for"
COUNTER = "num_batches_tracked"
_DIGITS = re.compile(r"(\d+)")

Pairs = Sequence[tuple[str, str]]


def align(
    tensors: Mapping[str, Tensor], target: Mapping[str, Tensor], names: Mapping[str, str], loose: frozenset[str]
) -> tuple[Match, ...]:
    """Return where each tensor lands: the first on the model's first, and so on; counters of batches are left aside.

    `names` gives each key as the rename rules left it. Shapes of the model's names in `loose`, its classifier's, may
    differ in their first side. WeightsError: another number of tensors, another shape somewhere, or names that do not
    bear the order out, so that another pairing would fit as well.
    """
    keys = [key for key in tensors if not _counts(key)]
    own = [name for name in target if not _counts(name)]
    if len(keys) != len(own):
        raise _refused(f"the file has {len(keys)} tensors and the model {len(own)}")
    pairs = list(zip(keys, own, strict=True))
    _require_shapes(pairs, tensors, target, loose)
    plain = [(unwrapped(names[key]), name) for key, name in pairs]
    _require_ascending([key for key, _ in plain])
    _require_alike([key for key, _ in plain])
    _require_one_meaning(plain, target)
    _require_told_apart(plain, target)
    return tuple(_matched(pairs)) + tuple(_counters(tensors, dict(plain), names, target))


def _counts(key: str) -> bool:
    return key.split(".")[-1] == COUNTER


def _matched(pairs: Pairs) -> Iterator[Match]:
    return (Match(key, name, RULE if key != name else "") for key, name in pairs)


def _counters(
    tensors: Mapping[str, Tensor], plain: Mapping[str, str], names: Mapping[str, str], target: Mapping[str, Tensor]
) -> Iterator[Match]:
    """The counters of batches go where the other tensors of their layer went."""
    layers = {_parent(key): _parent(name) for key, name in plain.items()}
    for key in filter(_counts, tensors):
        bare = unwrapped(names[key])
        name = f"{layers.get(_parent(bare), _parent(bare))}.{COUNTER}"
        yield Match(key, name, RULE if name != key else "")


def _require_shapes(
    pairs: Pairs, tensors: Mapping[str, Tensor], target: Mapping[str, Tensor], loose: frozenset[str]
) -> None:
    for key, name in pairs:
        given, wanted = tuple(tensors[key].shape), tuple(target[name].shape)
        if given != wanted and (name not in loose or given[1:] != wanted[1:] or len(given) != len(wanted)):
            raise _refused(f"{key} {_sides(given)} would land on {name} {_sides(wanted)}")


def _require_ascending(keys: Sequence[str]) -> None:
    """Numbers that stand in the same place of otherwise equal paths must come in ascending order."""
    latest: dict[str, tuple[int, str]] = {}
    for key in keys:
        for found in _DIGITS.finditer(key):
            place, number = f"{key[: found.start()]}#{_end_of_segment(key, found.end())}", int(found[1])
            before, earlier = latest.get(place, (number, key))
            if before > number:
                raise _refused(f"{key} comes after {earlier}")
            latest[place] = (number, key)


def _end_of_segment(key: str, start: int) -> str:
    return key[start:].partition(".")[0]


def _require_alike(keys: Sequence[str]) -> None:
    """Numbered blocks that hold the same names must list them in the same order."""
    blocks: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        segments = key.split(".")
        for depth, segment in enumerate(segments[:-1]):
            if segment.isdecimal():
                blocks[".".join(segments[: depth + 1])].append(".".join(segments[depth + 1 :]))
    orders: dict[tuple[str, frozenset[str]], tuple[str, list[str]]] = {}
    for block, names in blocks.items():
        other, order = orders.setdefault((block.rpartition(".")[0], frozenset(names)), (block, names))
        if order != names:
            raise _refused(f"{block} lists its tensors in another order than {other}")


def _require_one_meaning(pairs: Pairs, target: Mapping[str, Tensor]) -> None:
    """Tensors of one shape in one layer must say what they are, and no last name may mean two things."""
    kernel = next((key for key, name in pairs if key.split(".")[-1] == "kernel" and target[name].dim() > 1), None)
    if kernel is not None:
        raise _refused(f"{kernel} is of a framework that keeps its matrices turned round")
    shapes = Counter((_parent(key), target[name].shape) for key, name in pairs)
    meanings: dict[str, tuple[str, str]] = {}
    for key, name in pairs:
        last, own = key.split(".")[-1], name.split(".")[-1]
        known, earlier = meanings.setdefault(last, (own, key))
        if known != own:
            raise _refused(f"{earlier} would be a {known!r} and {key} a {own!r}")
        if shapes[_parent(key), target[name].shape] > 1 and MEANINGS.get(last, own if last == own else None) != own:
            raise _refused(f"{key} would be a {own!r}, and there are others of its shape beside it")


def _require_told_apart(pairs: Pairs, target: Mapping[str, Tensor]) -> None:
    """Modules of one parent that hold the same shapes must differ in numbers, or in names that the model has too."""
    shapes: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    named: dict[str, bool] = defaultdict(lambda: True)
    for key, name in pairs:
        segments = key.split(".")
        for depth in range(1, len(segments)):
            path = ".".join(segments[:depth])
            shapes[path].append(tuple(target[name].shape))
            named[path] &= segments[depth - 1] in name.split(".")
    known: dict[tuple[str, tuple[tuple[int, ...], ...]], str] = {}
    for path, held in shapes.items():
        other = known.setdefault((_parent(path), tuple(held)), path)
        if other != path and not (_numbered(other, path) or (named[other] and named[path])):
            raise _refused(f"{other} and {path} hold the same shapes, and their names do not say which comes first")


def _numbered(one: str, two: str) -> bool:
    """Tell whether two paths of one parent differ in numbers alone."""
    return _DIGITS.sub("#", one) == _DIGITS.sub("#", two)


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _sides(shape: tuple[int, ...]) -> str:
    return f"({' x '.join(map(str, shape)) or 'scalar'})"


def _refused(why: str) -> WeightsError:
    return WeightsError(f"the tensors cannot be aligned by order: {why}", where=RULE, hint=HINT)
