"""Write the ledger: give every key of the file and every tensor of the model its entry, or refuse."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from zoo.errors import WeightsError, nearest
from zoo.recipe.schema import WeightsTable
from zoo.registry.contracts import WeightsFile
from zoo.weights.adapt import adapt
from zoo.weights.draft import Draft, require_complete, require_finite
from zoo.weights.ledger import Entry, Ledger, Status
from zoo.weights.names import Match
from zoo.weights.reading import Checkpoint
from zoo.weights.values import flag, flag_fresh

COUNTER = "num_batches_tracked"
COMPUTED = frozenset({"relative_position_index", "relative_coords_table", "attn_mask", "position_ids"})
"""Last names of buffers that the architecture computes; they are nothing that was learnt."""
RESET = 'head = "reset"'
OLD = "files from before torch 0.4.1 do not count batches"
OWN = "computed by the architecture"


def account(
    draft: Draft, checkpoint: Checkpoint, matches: Iterable[Match], file: WeightsFile, table: WeightsTable
) -> tuple[Ledger, dict[str, Tensor]]:
    """Return the ledger and the new values by name. WeightsError: see `zoo.weights.loading.plan`."""
    draft.extremes = require_finite(checkpoint)
    for match in matches:
        _place(draft, match, checkpoint)
    for name in checkpoint.others:
        draft.add("dropped", name, None, "not a tensor", 0)
    for name, elements in (checkpoint.outside or {}).items():
        draft.add("dropped", name, None, f'outside which = "{checkpoint.which}"', elements)
    _drop(draft, checkpoint, (*table.may_drop, *file.may_drop))
    _fill(draft, (*table.may_miss, *file.may_miss), str(checkpoint.path))
    ledger = _close(draft, checkpoint, file)
    require_complete(draft, ledger)
    return ledger, draft.values


def _close(draft: Draft, checkpoint: Checkpoint, file: WeightsFile) -> Ledger:
    sources = {entry.target: entry.source for entry in draft.entries if entry.part == "backbone"}
    values = {name: value for name, value in draft.values.items() if name in sources}
    fresh = flag_fresh(values, {name: draft.extremes[sources[name] or ""] for name in values})
    return Ledger(
        tuple(draft.entries),
        checkpoint.path.name,
        checkpoint.sha256,
        file.origin,
        checkpoint.inside,
        file.licence,
        draft.head.missing_classes() if draft.head.policy == "by-class-name" else (),
        checkpoint.which,
        (*draft.flags, *fresh),
    )


def _place(draft: Draft, match: Match, checkpoint: Checkpoint) -> None:
    """Give one key of the file its entry."""
    value, name = checkpoint.tensors[match.source], match.target
    if draft.head.owns(name):
        _place_classifier(draft, match, value, str(checkpoint.path))
    elif _is_computed(name) and not _fits(draft.target.tensors.get(name), value):
        draft.add("dropped", match.source, None, OWN, value.numel())
    elif name in draft.target.tensors:
        _take(draft, match, value)
    elif draft.head.drops(name, frozenset(known.split(".")[0] for known in draft.target.tensors)):
        draft.add("dropped", match.source, None, RESET, value.numel())
    elif _counts_batches(name, draft.target.tensors):
        draft.add("dropped", match.source, None, "the model does not count batches", value.numel())
    else:
        draft.unexpected.append(match.source)


def _is_computed(name: str) -> bool:
    return name.split(".")[-1] in COMPUTED


def _fits(wanted: Tensor | None, value: Tensor) -> bool:
    return wanted is not None and wanted.shape == value.shape and _kind(wanted) == _kind(value)


def _counts_batches(name: str, target: Mapping[str, Tensor]) -> bool:
    return name.endswith(f".{COUNTER}") and f"{name.removesuffix(COUNTER)}running_mean" in target


def _place_classifier(draft: Draft, match: Match, value: Tensor, where: str) -> None:
    if draft.head.policy == "reset":
        draft.entries.append(Entry(match.source, None, "dropped", RESET, value.numel(), "head"))
        return
    draft.head.require_classes(draft.target.tensors, where)
    if match.target not in draft.target.tensors:
        draft.unexpected.append(match.source)
    elif draft.head.policy == "keep":
        _take(draft, match, value)
    else:
        _take_rows(draft, match, value)


def _take(draft: Draft, match: Match, value: Tensor) -> None:
    wanted = draft.target.tensors[match.target]
    if _kind(value) != _kind(wanted):
        draft.misfits[match.target] = f"({_type(value)} in the file, {_type(wanted)} in the model)"
    elif value.shape == wanted.shape:
        _enter(draft, match, value.to(wanted.dtype), value, value.numel(), "")
    elif match.foreign and _flat(value) == _flat(wanted):
        same = value.reshape(wanted.shape).to(wanted.dtype)
        _enter(draft, match, same, value, value.numel(), f"reshaped from {_shape(value)}", "adapted")
    else:
        _adapt(draft, match, value)


def _flat(tensor: Tensor) -> tuple[int, int]:
    """The sides of a tensor as rows: a linear layer on flat features is a convolution over all of them."""
    return (tensor.shape[0] if tensor.dim() else 1), tensor.numel()


def _adapt(draft: Draft, match: Match, value: Tensor) -> None:
    wanted = draft.target.tensors[match.target]
    found = None if draft.head.owns(match.target) else adapt(match.target, value, wanted, draft.target.module)
    if found is None:
        draft.misfits[match.target] = _shapes(value, wanted)
    elif found.kind not in draft.adaptable:
        draft.misfits[match.target] = f'{_shapes(value, wanted)[:-1]}; adapt = ["{found.kind}"] would take it)'
    else:
        _enter(draft, match, found.values.to(wanted.dtype), value, wanted.numel(), found.how, "adapted")


def _take_rows(draft: Draft, match: Match, value: Tensor) -> None:
    head, wanted = draft.head, draft.target.tensors[match.target]
    known, absent = len(head.known or ()), len(head.missing_classes())
    if value.shape[:1] != (known,) or value.shape[1:] != wanted.shape[1:] or wanted.shape[:1] != (len(head.classes),):
        draft.misfits[match.target] = f"{_shapes(value, wanted)} for {known} and {len(head.classes)} classes"
        return
    taken = len(head.classes) - absent
    reason = f"{taken} of {len(head.classes)} rows by class name"
    elements = taken * (wanted.numel() // len(head.classes))
    _enter(draft, match, head.gather(value, wanted), value, elements, reason)
    if absent:
        lacking = f"{absent} rows of classes that the file lacks"
        draft.add("initialised", None, match.target, lacking, wanted.numel() - elements)


def _enter(
    draft: Draft, match: Match, new: Tensor, value: Tensor, elements: int, reason: str, status: Status | None = None
) -> None:
    if new.dtype != value.dtype and not new.is_meta and not bool(torch.isfinite(new).all()):
        draft.misfits[match.target] = f"({_type(value)} in the file, too large for {_type(new)} in the model)"
        return
    changed = "" if new.dtype == value.dtype else f"{_type(value)} to {_type(new)}"
    reasons = "; ".join(filter(None, (match.rule, reason, changed)))
    plain: Status = "loaded" if match.source == match.target else "renamed"
    draft.add(status or plain, match.source, match.target, reasons, elements)
    draft.values[match.target] = new
    odd = flag(match.target, value, draft.extremes[match.source])
    draft.flags += [odd] if odd else []


def _drop(draft: Draft, checkpoint: Checkpoint, patterns: Sequence[str]) -> None:
    """Give keys without a place that may be dropped their entry."""
    for pattern in patterns:
        if not any(fnmatchcase(key, pattern) for key in checkpoint.tensors):
            what = f"may_drop {pattern!r} matches no key of the file"
            raise WeightsError(what, str(checkpoint.path), nearest(pattern, checkpoint.tensors))
    for key in list(draft.unexpected):
        allowed = next((pattern for pattern in patterns if fnmatchcase(key, pattern)), None)
        if allowed is not None:
            draft.unexpected.remove(key)
            draft.add("dropped", key, None, f"may_drop {allowed!r}", checkpoint.tensors[key].numel())


def _fill(draft: Draft, may_miss: Sequence[str], where: str) -> None:
    """Give each tensor of the model that no key reached its entry, or count it as missing."""
    backbone = [name for name in draft.target.tensors if not draft.head.owns(name)]
    for pattern in may_miss:
        if not any(fnmatchcase(name, pattern) for name in backbone):
            raise WeightsError(
                f"may_miss {pattern!r} matches no tensor of the backbone", where, nearest(pattern, backbone)
            )
    for name, tensor in draft.target.tensors.items():
        if name in draft.values or name in draft.misfits:
            continue
        allowed = next((pattern for pattern in may_miss if fnmatchcase(name, pattern)), None)
        if draft.head.owns(name):
            _fill_classifier(draft, name, tensor)
        elif allowed is not None:
            draft.add("allowed-missing", None, name, f"may_miss {allowed!r}", tensor.numel())
        elif name.split(".")[-1] == COUNTER:
            draft.add("allowed-missing", None, name, OLD, tensor.numel())
        elif _is_computed(name):
            draft.add("allowed-missing", None, name, OWN, tensor.numel())
        else:
            draft.missing.append(name)


def _fill_classifier(draft: Draft, name: str, tensor: Tensor) -> None:
    if draft.head.policy == "reset":
        draft.add("initialised", None, name, RESET, tensor.numel())
    else:
        draft.missing.append(name)


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shapes(value: Tensor, wanted: Tensor) -> str:
    return f"({_shape(value)} in the file, {_shape(wanted)} in the model)"


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(side) for side in tensor.shape) or "scalar"
