"""How a checkpoint's keys land on a model's names, guided by the names the model really has."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Match:
    """One key of the file and the name it lands on, which the model may lack; `rule` says why they differ, or ""."""

    source: str
    target: str
    rule: str = ""


def match(keys: Iterable[str], target: Collection[str], rename: Sequence[tuple[str, str]] = ()) -> tuple[Match, ...]:
    """Return where each key lands, in the order of `keys`.

    The rename rules are applied first, each to what the one before left. Then a key that the model really has stays as
    it is. Of the others wrapper segments are removed wherever they stand, and one namespace, the same for the whole
    file: the one under which most keys land. WeightsError: two keys land on one name, or a rule cannot be applied.
    """
    renamed = [_rename(key, rename) for key in keys]
    names = _Names(target)
    prefix = names.namespace([match.target for match in renamed])
    matches = tuple(_land(match, names, prefix) for match in renamed)
    _require_apart(matches)
    return matches


def unwrapped(name: str) -> str:
    """Return `name` without wrapper segments, any number of them, anywhere in the path."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


class _Names:
    """The model's names, found by what remains of them without wrapper segments."""

    def __init__(self, target: Collection[str]) -> None:
        self.exact = frozenset(target)
        self.bare: dict[str, list[str]] = defaultdict(list)
        for name in target:
            self.bare[unwrapped(name)].append(name)

    def find(self, key: str) -> str | None:
        """Return the model's name for a key: itself, or the only one that differs in wrapper segments."""
        if key in self.exact:
            return key
        found = self.bare.get(unwrapped(key), [])
        if len(found) > 1:
            # A module truly called `module` beside the same path without it: remove as little as possible.
            found = [name for name in found if _within(name, key)]
            found = sorted(found, key=len)[-1:]
        return found[0] if found else None

    def namespace(self, keys: Sequence[str]) -> str:
        """Return the prefix ("model.backbone.", or "") under which most keys are found, the shortest of equals."""
        bare = [unwrapped(key) for key in keys if self.find(key) is None]
        prefixes = sorted({prefix for key in bare for prefix in _prefixes(key)}, key=lambda item: (len(item), item))
        counts = {prefix: sum(self._finds(key, prefix) for key in bare) for prefix in prefixes}
        best = max(prefixes, key=lambda prefix: counts[prefix], default="")
        return best if best and counts[best] else ""

    def _finds(self, key: str, prefix: str) -> bool:
        return key.startswith(prefix) and self.find(key.removeprefix(prefix)) is not None


def _within(name: str, key: str) -> bool:
    segments = iter(key.split("."))
    return all(part in segments for part in name.split("."))


def _prefixes(key: str) -> list[str]:
    """Return the runs of namespaces that `key` begins with: `model.net.fc.bias` → "model.", "model.net."."""
    found: list[str] = []
    for part in key.split(".")[:-1]:
        if part not in NAMESPACES:
            break
        found.append(f"{found[-1] if found else ''}{part}.")
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


def _land(match: Match, names: _Names, prefix: str) -> Match:
    found = names.find(match.target)
    if found == match.target:
        return match
    key = unwrapped(match.target)
    rules = [match.rule, "wrapper segments" if key != match.target else ""]
    if found is None and prefix and key.startswith(prefix):
        key = key.removeprefix(prefix)
        rules.append(f"namespace {prefix}")
        found = names.find(key)
    if found is not None and found != key:
        rules.append("wrapper segments of the model")
    return Match(match.source, found or key, "; ".join(filter(None, rules)))


def _require_apart(matches: Iterable[Match]) -> None:
    taken: dict[str, str] = {}
    for match in matches:
        if match.target in taken:
            raise WeightsError(
                f"two keys land on {match.target}: {taken[match.target]} and {match.source}",
                hint="the file holds two models, or a rename rule is too wide: save one, or narrow the rule",
            )
        taken[match.target] = match.source
