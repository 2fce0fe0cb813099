"""Would these weights load? Asked without a recipe, data, or memory for the model."""

from pydantic import ValidationError
from torch import Tensor

from zoo.errors import ZooError
from zoo.meta import on_meta
from zoo.recipe.schema import WeightsTable
from zoo.registry import Registry, kinds
from zoo.registry.contracts import Backbone, WeightsFile
from zoo.weights.equivalents import other_names
from zoo.weights.ledger import Ledger
from zoo.weights.loading import plan
from zoo.weights.names import match
from zoo.weights.reading import read_tensors
from zoo.weights.target import Target


def check_weights(registry: Registry, backbone: str, file: WeightsFile, table: WeightsTable) -> Ledger:
    """Return the ledger of loading `file` into `backbone`, `NAME/ARCH` ("timm/resnet50"), as a recipe's table has it.

    With head = "keep" the file's classifier has to fit as well: it sets the number of classes. WeightsError: the load
    would be refused. ZooError: there is no such backbone.
    """
    built = build_on_meta(registry, backbone)
    native, tensors = built.native, dict(built.module.state_dict())
    if native.classifier and (table.head == "keep" or file.align == "order"):
        tensors |= _classifier(built, file, table)
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


def _classifier(built: Backbone, file: WeightsFile, table: WeightsTable) -> dict[str, Tensor]:
    """The native classifier's tensors with as many classes as the file has rows."""
    native = built.native
    names = [f"{native.classifier}.weight", f"{native.classifier}.bias"]
    known = [*built.module.state_dict(), *names]
    tensors = read_tensors(file.path, which=table.which)
    found = match(tensors, known, file.rename, other_names(native.identity, known))
    rows = next((len(tensors[item.source]) for item in found if item.target == names[1]), 1)
    with on_meta():
        state = native.build(rows).state_dict()
    return {name: state[name] for name in names}
