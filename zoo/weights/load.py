"""Load a checkpoint into a model: everything is accounted for before the first value moves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import WeightsError
from zoo.recipe.schema import WeightsTable
from zoo.registry.contracts import WeightsFile
from zoo.weights.account import account
from zoo.weights.branches import require_answered, take_branch
from zoo.weights.classifier import Classifier
from zoo.weights.ledger import Ledger
from zoo.weights.names import match
from zoo.weights.reading import Checkpoint, read_checkpoint


def plan(
    target: Mapping[str, Tensor],
    file: WeightsFile,
    table: WeightsTable,
    classifier: str | None,
    classes: Sequence[str],
    architecture: str | None = None,
) -> tuple[Ledger, dict[str, Tensor]]:
    """Return the ledger of loading `file` into `target`, and the new values by name, in the target's types.

    `target` holds the whole model by native names (on any device, meta included): the backbone's tensors, and the
    head's under `classifier` when it has a native form. `classes` are the head's, in order. `architecture` is the
    `library/arch` that is wanted. Nothing is changed. WeightsError: the file is of another architecture, cannot be
    read, leaves anything of either side unaccounted for, or holds NaN or Inf.
    """
    _require_architecture(file, architecture)
    checkpoint = _read(file, table.which, target)
    head = Classifier(classifier, table.head, tuple(classes), file.classes)
    matches = match(checkpoint.tensors, [*target, *head.names()], file.rename)
    ledger, values = account(target, checkpoint, matches, head, file, (*table.may_miss, *file.may_miss))
    checkpoint.require_unchanged()
    return ledger, values


def load(
    target: Mapping[str, Tensor],
    file: WeightsFile,
    table: WeightsTable,
    classifier: str | None,
    classes: Sequence[str],
    architecture: str | None = None,
) -> Ledger:
    """Plan, copy the values into `target` in place, and compare. Arguments and errors as for `plan`; all or nothing."""
    ledger, values = plan(target, file, table, classifier, classes, architecture)
    before = {name: target[name].detach().clone() for name in values}
    try:
        _copy(target, values)
        _require_equal(target, values, file.path)
    except BaseException:
        _copy(target, before)
        raise
    return ledger


def load_into(model: nn.Module, file: Path | str | WeightsFile, which: str | None = None) -> Ledger:
    """Load a checkpoint into any torch module in place: every tensor on both sides, classifier included, must fit.

    `which` chooses where the file holds several sets of weights, as in `WeightsTable`. WeightsError as for `plan`.
    """
    known = file if isinstance(file, WeightsFile) else WeightsFile(Path(file), origin="a file")
    target = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    return load(target, known, WeightsTable(head="keep", which=which), None, ())


def _read(file: WeightsFile, which: str | None, target: Mapping[str, Tensor]) -> Checkpoint:
    """Return the one set of weights that is meant: by its containers, then by the branch of the state dict."""
    read = read_checkpoint(file.path, file.sha256, which)
    tensors, outside, left = take_branch(read.tensors, target, read.asked, file.path)
    require_answered(left, read.inside, read.tensors, file.path)
    return replace(read, tensors=tensors, outside=outside, which=which or "", asked=())


def _require_architecture(file: WeightsFile, wanted: str | None) -> None:
    if None not in (wanted, file.architecture) and wanted != file.architecture:
        raise WeightsError(
            f"these weights are of {file.architecture}, the model is {wanted}",
            where=file.origin,
            hint="name that architecture in [backbone], or other weights in [weights]",
        )


def _copy(target: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            target[name].copy_(value)


def _require_equal(target: Mapping[str, Tensor], values: Mapping[str, Tensor], path: Path) -> None:
    """The postcondition. It fails when two names of the model share memory and the file has two values for it."""
    for name, value in values.items():
        if not torch.equal(target[name].detach().cpu(), value.cpu()):
            raise WeightsError(
                f"{name} does not hold the values that were loaded into it",
                where=str(path),
                hint="it shares memory with another tensor of the model, and the file's values for the two differ",
            )
