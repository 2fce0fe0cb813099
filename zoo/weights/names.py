"""How a checkpoint's keys land on a model's names, guided by the names the model really has."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from zoo.errors import WeightsError

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Segments that DDP and DataParallel, torch.compile, FSDP, activation checkpointing and Fabric put into names."""
NAMESPACES = frozenset(
    {
        *("model", "net", "network", "backbone", "encoder", "student", "teacher", "trunk", "base_model", "0"),
        *("encoder_q", "encoder_k", "base_encoder", "momentum_encoder", "online_encoder", "target_encoder"),
        *("online", "target", "online_network", "target_network", "online_net", "target_net"),
        *("momentum_backbone", "backbone_momentum", "student_backbone", "teacher_backbone"),
        *("ema", "ema_model", "model_ema", "net_ema"),
    }
)
"""Attributes under which training code keeps the model."""
DEPTH = 3  # namespaces in one another that are looked for whatever they are called
NEARLY_ALL = 0.9  # share of keys below one path when it is a namespace; the classifier may stand outside
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Match:
    """One key of the file and the name it lands on, which the model may lack; `rule` says why they differ, or "".

    `foreign`: it was found by an alias, so that the same values may lie in another shape.
    """

    source: str
    target: str
    rule: str = ""
    foreign: bool = False


def match(
    keys: Iterable[str],
    target: Collection[str],
    rename: Sequence[tuple[str, str]] = (),
    aliases: Mapping[str, str] = _NONE,
    optional: Collection[str] = (),
) -> tuple[Match, ...]:
    """Return where each key lands, in the order of `keys`.

    The rename rules are applied first, each to what the one before left. Then a key that the model really has stays as
    it is. Of the others wrapper segments are removed wherever they stand, one namespace is removed and one added, the
    same for the whole file: those under which most keys land, more than land without. `aliases` are other spellings of
    the model's names, `optional` those that come second where two namespaces fit as well.

    WeightsError: two keys land on one name, or a rule cannot be applied.
    """
    names = _Names(target, aliases, optional)
    renamed = _peel([_rename(key, rename) for key in keys], names.exact)
    space = names.namespace([match.target for match in renamed])
    matches = tuple(_land(match, names, space) for match in renamed)
    _require_apart(matches)
    return matches


def stage_of(name: str) -> str:
    """Return the stage that a tensor's name belongs to: its first segment, with a number that follows it."""
    first, *rest = unwrapped(name).split(".")
    return f"{first}.{rest[0]}" if rest and rest[0].isdecimal() else first


def unwrapped(name: str) -> str:
    """Return `name` without wrapper segments, any number of them, anywhere in the path."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


@dataclass(frozen=True)
class _Space:
    """The namespace that the file has around the model, and the one that the model has around itself."""

    removed: str = ""
    added: str = ""

    def apply(self, key: str) -> str | None:
        """Return a key under the model's namespace instead of the file's, None when it is not under the file's."""
        return self.added + key.removeprefix(self.removed) if key.startswith(self.removed) else None

    def rules(self) -> list[str]:
        """Return what it does, in words."""
        told = [f"namespace {self.removed}"] if self.removed else []
        return [*told, f"added namespace {self.added}"] if self.added else told


class _Names:
    """The model's names, found by what remains of them without wrapper segments, or by another spelling."""

    def __init__(self, target: Collection[str], aliases: Mapping[str, str], optional: Collection[str]) -> None:
        self.exact = frozenset(target)
        self.optional = frozenset(optional)
        self.aliases = {alias: name for alias, name in aliases.items() if name in self.exact}
        self.bare: dict[str, list[str]] = defaultdict(list)
        for name in target:
            self.bare[unwrapped(name)].append(name)

    def find(self, key: str) -> str | None:
        """Return the model's name for a key: itself, the only one that differs in wrapper segments, or an alias'."""
        if key in self.exact:
            return key
        bare = unwrapped(key)
        found = self.bare.get(bare, [])
        if len(found) > 1:
            # A module truly called `module` beside the same path without it: remove as little as possible.
            found = [name for name in found if _within(name, key)]
            found = sorted(found, key=len)[-1:]
        return found[0] if found else self.aliases.get(bare)

    def namespace(self, keys: Sequence[str]) -> _Space:
        """Return the namespaces under which most keys are found, more than without; the shortest of equals."""
        bare = [unwrapped(key) for key in keys if self.find(key) is None]
        spaces = [_Space(removed, added) for removed in _spaces(bare) for added in _spaces(self.bare)]
        # What goes by the number of keys alone is taken off or put on, never exchanged: that could be another module.
        spaces += [_Space(removed=around) for around in _around([unwrapped(key) for key in keys])]
        spaces += [_Space(added=around) for around in _around(self.bare)]
        found = {space: [name for key in bare if (name := self._found(key, space)) is not None] for space in spaces}
        best = max(spaces, key=lambda space: self._rank(space, found[space]), default=_Space())
        return best if len(found.get(best, ())) > len(keys) - len(bare) else _Space()

    def _rank(self, space: _Space, found: Sequence[str]) -> tuple[int, int, int]:
        required = sum(name not in self.optional for name in found)
        return len(found), required, -len(space.removed + space.added)

    def _found(self, key: str, space: _Space) -> str | None:
        moved = space.apply(key)
        return None if moved is None else self.find(moved)


def _peel(matches: Sequence[Match], exact: Collection[str]) -> list[Match]:
    """Take off what one wrapper put around all keys, as long as more of them are then the model's own names."""
    peeled = list(matches)
    while peeled and {match.target.partition(".")[0] for match in peeled} <= WRAPPERS:
        inner = [replace(match, target=match.target.partition(".")[2], rule=_told(match.rule)) for match in peeled]
        if sum(match.target in exact for match in inner) <= sum(match.target in exact for match in peeled):
            break
        peeled = inner
    return peeled


def _told(rule: str) -> str:
    return rule if rule.endswith("wrapper segments") else "; ".join(filter(None, (rule, "wrapper segments")))


def _within(name: str, key: str) -> bool:
    segments = iter(key.split("."))
    return all(part in segments for part in name.split("."))


def _spaces(keys: Collection[str]) -> list[str]:
    """Return the known namespaces that keys begin with, the empty one first."""
    return ["", *sorted({prefix for key in keys for prefix in _prefixes(key)}, key=lambda item: (len(item), item))]


def _prefixes(key: str) -> list[str]:
    """Return the runs of namespaces that `key` begins with: `model.net.fc.bias` → "model.", "model.net."."""
    found: list[str] = []
    for part in key.split(".")[:-1]:
        if part not in NAMESPACES:
            break
        found.append(f"{found[-1] if found else ''}{part}.")
    return found


def _around(keys: Collection[str]) -> list[str]:
    """Return the paths, whatever they are called, that nearly all of the keys begin with."""
    found: list[str] = []
    paths = [key.split(".") for key in keys]
    for depth in range(1, DEPTH + 1):
        heads = Counter(".".join(path[:depth]) for path in paths if len(path) > depth)
        name, count = max(heads.items(), key=lambda item: item[1], default=("", 0))
        if count < NEARLY_ALL * len(paths) or not paths:
            break
        found.append(f"{name}.")
    return found


def _rename(key: str, rename: Sequence[tuple[str, str]]) -> Match:
    name, used = key, []
    for pattern, replacement in rename:
        changed = _replace(pattern, replacement, name)
        used += [pattern] if changed != name else []
        name = changed
    return Match(key, name, f"rename {', '.join(used)}" if used else "")


def _replace(pattern: str, replacement: str, name: str) -> str:
    try:
        return re.sub(pattern, replacement, name)
    except re.error as error:
        hint = "in a replacement \\1 is the first group of the pattern"
        raise WeightsError(
            f"the rename rule {pattern!r} → {replacement!r} cannot be applied: {error}", "", hint
        ) from None


def _land(match: Match, names: _Names, space: _Space) -> Match:
    found = names.find(match.target)
    if found == match.target:
        return match
    moved = space.apply(match.target)
    if found is None and moved in names.exact:
        return Match(match.source, moved, "; ".join(filter(None, (match.rule, *space.rules()))))
    key = unwrapped(match.target)
    rules = [_told(match.rule) if key != match.target else match.rule]
    if found is None and (moved := space.apply(key)) is not None and names.find(moved) is not None:
        key, found = moved, names.find(moved)
        rules += space.rules()
    foreign = found is not None and names.aliases.get(key) == found
    if found is not None and found != key:
        rules.append("the other library's names" if foreign else "wrapper segments of the model")
    return Match(match.source, found or key, "; ".join(filter(None, rules)), foreign)


def _require_apart(matches: Iterable[Match]) -> None:
    taken: dict[str, str] = {}
    for match in matches:
        if match.target in taken:
            raise WeightsError(
                f"two keys land on {match.target}: {taken[match.target]} and {match.source}",
                hint="the file holds two models, or a rename rule is too wide: save one, or narrow the rule",
            )
        taken[match.target] = match.source
