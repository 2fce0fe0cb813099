"""The eight kinds of part: one word each, the same in the recipe, the hook, the folder and the conformance check."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of part. `name` is its recipe table, `hook` the hook through which plugins offer it."""

    name: str
    hook: str
    many: bool = False
    required: bool = False
    default: str | None = None


BACKBONE = Kind("backbone", "zoo_backbones", required=True)
HEAD = Kind("head", "zoo_heads", many=True, default="linear")
WEIGHTS = Kind("weights", "zoo_weights_sources", default="none")
DATA = Kind("data", "zoo_data_sources", required=True)
FREEZE = Kind("freeze", "zoo_freeze_policies", default="none")
DEVICE = Kind("device", "zoo_device_strategies", default="single")
EXPORT = Kind("export", "zoo_exporters", many=True)
CALLBACK = Kind("callback", "zoo_callbacks", many=True)

KINDS: tuple[Kind, ...] = (BACKBONE, HEAD, WEIGHTS, DATA, FREEZE, DEVICE, EXPORT, CALLBACK)
BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}
BY_HOOK: dict[str, Kind] = {kind.hook: kind for kind in KINDS}
