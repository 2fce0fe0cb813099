"""Would these weights load? Asked without a recipe, data, or memory for the model."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError

from zoo.errors import ZooError
from zoo.meta import on_meta
from zoo.recipe.schema import WeightsTable
from zoo.registry import Registry, kinds
from zoo.registry.contracts import Backbone, WeightsFile
from zoo.weights.ledger import Ledger
from zoo.weights.loading import plan
from zoo.weights.names import match
from zoo.weights.reading import read_checkpoint
from zoo.weights.target import Target


def check_weights(registry: Registry, backbone: str, path: Path, head: Literal["reset", "keep"] = "reset") -> Ledger:
    """Return the ledger of loading the file at `path` into `backbone`, `NAME/ARCH` ("timm/resnet50").

    With head = "keep" the file's classifier has to fit as well: it sets the number of classes. WeightsError: the load
    would be refused. ZooError: there is no such backbone.
    """
    built = build_on_meta(registry, backbone)
    file, table = WeightsFile(path, origin=f"file {path}"), WeightsTable(head=head)
    tensors = dict(built.module.state_dict())
    if head == "keep" and built.native.classifier:
        tensors |= _classifier(built, path)
    native = built.native
    return plan(Target(tensors, built.module, native.classifier, (), native.identity), file, table).ledger


def build_on_meta(registry: Registry, backbone: str) -> Backbone:
    """Return the backbone `NAME/ARCH` on the meta device: shapes without numbers. ZooError: there is none."""
    name, _, arch = backbone.partition("/")
    part = registry.find(kinds.BACKBONE, name).part
    try:
        options = part.options(**({"arch": arch} if arch else {}))
    except ValidationError as error:
        text = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ZooError(f"there is no backbone {backbone!r}: {text}", hint="zoo list backbone 'timm/*'") from error
    with on_meta():
        built: Backbone = part.builder()(options, None)
    return built


def _classifier(built: Backbone, path: Path) -> dict[str, torch.Tensor]:
    """The native classifier's tensors with as many classes as the file has rows."""
    tensors = read_checkpoint(path).tensors
    names = [f"{built.native.classifier}.weight", f"{built.native.classifier}.bias"]
    found = {item.target: tensors[item.source] for item in match(tensors, [*built.module.state_dict(), *names])}
    rows = len(found[names[1]]) if names[1] in found else 1
    with on_meta():
        native = built.native.build(rows).state_dict()
    return {name: native[name] for name in names}
