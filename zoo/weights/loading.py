"""Load a checkpoint into a model: everything is accounted for before the first value moves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from zoo.errors import WeightsError
from zoo.recipe.schema import WeightsTable
from zoo.registry.contracts import WeightsFile
from zoo.weights.account import account
from zoo.weights.assign import assign, shared_memory
from zoo.weights.branches import require_answered, take_branch
from zoo.weights.classifier import Classifier, Policy
from zoo.weights.draft import Draft
from zoo.weights.equivalents import equivalent, other_names
from zoo.weights.ledger import Ledger
from zoo.weights.lowrank import merge_adapters
from zoo.weights.names import Match, match
from zoo.weights.order import align
from zoo.weights.reading import Checkpoint, read_checkpoint
from zoo.weights.target import Target


@dataclass(frozen=True)
class Planned:
    """A load that would be accepted: its ledger, and the new values by name in the target's types.

    The values may be mapped from the file.
    """

    ledger: Ledger
    values: Mapping[str, Tensor]
    checkpoint: Checkpoint

    def owned(self) -> dict[str, Tensor]:
        """Return the values in memory of their own. WeightsError: the file was written to since it was hashed."""
        values = {name: value.clone() for name, value in self.values.items()}
        self.checkpoint.require_unchanged()
        return values


def load(
    model: nn.Module,
    file: Path | str | WeightsFile,
    *,
    which: str | None = None,
    head: Policy = "keep",
    classifier: str | None = None,
    classes: Sequence[str] = (),
    may_miss: Sequence[str] = (),
    may_drop: Sequence[str] = (),
    adapt: Sequence[str] = ("channels", "positions"),
    architecture: str | None = None,
) -> Ledger:
    """Load a checkpoint into any torch module in place, and return what became of every tensor on both sides.

    `model` may be wrapped (DataParallel, DistributedDataParallel, torch.compile); names are those of the model within.
    Every tensor must find its place, those of the classifier too unless `head` says otherwise: `classifier` is then its
    prefix ("fc") and `classes` its class names. The other options are the keys of `[weights]` in a recipe.
    `architecture` ("timm/vgg16") lets the other library's names in; timm's models say it themselves.

    A model on the meta device gets the file's own tensors, mapped where the format allows it: no second copy in memory.
    Its values then follow the file's bytes, so replace such a file, never write into it.

    WeightsError: the file cannot be read or leaves anything unaccounted for; the model is then as it was.
    """
    if classifier is None and (head != "keep" or classes):
        asked = f'head = "{head}"' if head != "keep" else "`classes`"
        raise WeightsError(f"{asked} needs to be told which layer is the classifier", hint='such as classifier = "fc"')
    known = file if isinstance(file, WeightsFile) else WeightsFile(Path(file), origin=f"file {file}")
    model = _without_wrappers(model)
    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    _require_whole(tensors)
    target = Target(tensors, model, classifier, tuple(classes), architecture or _architecture(model))
    options = {"may_miss": may_miss, "may_drop": may_drop, "adapt": adapt}
    table = WeightsTable(head=head, which=which, **{key: list(value) for key, value in options.items()})
    if not any(value.is_meta for value in tensors.values()):
        return load_state(target, known, table)
    planned = plan(target, known, table)
    assign(model, tensors, planned.values, planned.checkpoint.path)
    return planned.ledger


def load_state(target: Target, file: WeightsFile, table: WeightsTable) -> Ledger:
    """Plan, copy the values into the target's tensors in place, and compare. Errors as for `plan`; all or nothing."""
    planned = plan(target, file, table)
    values = planned.owned()
    _require_apart(target.tensors, values, file.path)
    before = {name: target.tensors[name].detach().clone() for name in values}
    try:
        _copy(target.tensors, values)
        _require_equal(target.tensors, values, file.path)
    except BaseException:
        _copy(target.tensors, before)
        raise
    return planned.ledger


def plan(target: Target, file: WeightsFile, table: WeightsTable) -> Planned:
    """Return what loading `file` into `target` would do. Nothing is changed.

    WeightsError: the file is of another architecture, cannot be read, leaves anything of either side unaccounted for,
    or holds NaN or Inf.
    """
    _require_architecture(file, target.architecture)
    checkpoint = _read(file, table.which, target.tensors)
    head = Classifier(target.classifier, table.head, target.classes, file.classes)
    draft = Draft(target, head, table.adapt)
    ledger, values = account(draft, checkpoint, _matches(checkpoint, target, head, file, table), file, table)
    checkpoint.require_unchanged()
    return Planned(ledger, values, checkpoint)


def _without_wrappers(model: nn.Module) -> nn.Module:
    """Return the model that DataParallel, DistributedDataParallel and torch.compile stand around, in any order."""
    while isinstance(model, nn.DataParallel | DistributedDataParallel | OptimizedModule):
        inner: nn.Module = model._orig_mod if isinstance(model, OptimizedModule) else model.module
        model = inner
    return model


def _require_whole(tensors: Mapping[str, Tensor]) -> None:
    sharded = next((name for name, tensor in tensors.items() if isinstance(tensor, DTensor)), None)
    if sharded is not None:
        raise WeightsError(
            f"{sharded} is spread over several processes (DTensor)",
            hint="load before `fully_shard`, or use torch.distributed.checkpoint.state_dict.set_model_state_dict",
        )


def _architecture(model: nn.Module) -> str | None:
    """Return what timm writes into its models."""
    config = getattr(model, "pretrained_cfg", None)
    name = config.get("architecture") if isinstance(config, Mapping) else None
    return f"timm/{name}" if name else None


def _matches(
    checkpoint: Checkpoint, target: Target, head: Classifier, file: WeightsFile, table: WeightsTable
) -> tuple[Match, ...]:
    names: Collection[str] = dict.fromkeys([*target.tensors, *head.names()])
    if file.align == "order":
        renamed = {found.source: found.target for found in match(checkpoint.tensors, (), file.rename)}
        loose = frozenset(head.names() if head.policy != "keep" else ())
        return align(checkpoint.tensors, target.tensors, renamed, loose)
    aliases = other_names(target.architecture, names) if target.architecture else {}
    may_miss = (*table.may_miss, *file.may_miss)
    optional = [name for name in names if any(fnmatchcase(name, pattern) for pattern in may_miss)]
    return match(checkpoint.tensors, names, file.rename, aliases, optional)


def _read(file: WeightsFile, which: str | None, target: Mapping[str, Tensor]) -> Checkpoint:
    """Return the one set of weights that is meant: by its containers, then by the branch of the state dict.

    Low-rank adapters that a run trained are folded in.
    """
    read = read_checkpoint(file.path, file.sha256, which)
    tensors, outside, left = take_branch(merge_adapters(read.tensors), target, read.asked, file.path)
    require_answered(left, read.inside, read.tensors, file.path)
    return replace(read, tensors=tensors, outside=outside, which=which or "", asked=())


def _require_architecture(file: WeightsFile, wanted: str | None) -> None:
    if file.architecture is None or wanted is None or file.architecture in (wanted, equivalent(wanted)):
        return
    raise WeightsError(
        f"these weights are of {file.architecture}, the model is {wanted}",
        where=file.origin,
        hint="name that architecture in [backbone], or other weights in [weights]",
    )


def _copy(target: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            target[name].copy_(value)


def _require_apart(target: Mapping[str, Tensor], values: Mapping[str, Tensor], path: Path) -> None:
    """WeightsError when two names of the model share memory and the file has two values for it."""
    owners: dict[tuple[object, ...], str] = {}
    for name, value in values.items():
        tensor = target[name]
        owner = owners.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()), name)
        if owner != name and tensor.numel() and not torch.equal(values[owner], value):
            raise shared_memory(name, owner, path)


def _require_equal(target: Mapping[str, Tensor], values: Mapping[str, Tensor], path: Path) -> None:
    """The postcondition."""
    for name, value in values.items():
        if not torch.equal(target[name].detach().cpu(), value):
            raise WeightsError(
                f"{name} does not hold the values that were loaded into it",
                where=str(path),
                hint="it shares memory with another tensor of the model: load a model without such views",
            )
