"""The preprocessing that a model of transformers expects, as zoo says it."""

from collections.abc import Mapping
from typing import Any

import zoo
from transformers import AutoImageProcessor
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

from zoo_hf.repository import Repository

FILE = "preprocessor_config.json"
RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers."""


def find_input(config: Any, repository: Repository) -> zoo.InputSpec:
    """Return what preprocessor_config.json says, else the defaults of the model's own image processor.

    ZooError: images are not resized and scaled to [0, 1], or in a way that an InputSpec cannot say.
    """
    own = config.to_dict().get("image_size")
    if repository.find(FILE) is not None:
        facts = _read(repository)
    elif own:  # the defaults are for the type's own size, the configuration may be for another
        facts = _resized(_defaults(config), _pair(own, (0, 0)))
    else:
        facts = _defaults(config)
    size, crop_pct = _sizes(facts, repository)
    plain = not facts.get("do_normalize", True)
    return zoo.InputSpec(
        size=size,
        mean=(0.0, 0.0, 0.0) if plain else _triple(facts["image_mean"]),
        std=(1.0, 1.0, 1.0) if plain else _triple(facts["image_std"]),
        interpolation=_interpolation(facts, repository),
        crop_pct=crop_pct,
    )


def _read(repository: Repository) -> dict[str, Any]:
    """Return what the repository's own image processor does, its defaults included."""
    try:
        processor = AutoImageProcessor.from_pretrained(repository.name, revision=repository.revision)
    except (OSError, ValueError, KeyError, ImportError) as error:
        what = f"the preprocessing of {repository.name!r} cannot be read: {str(error).strip().splitlines()[0]}"
        raise zoo.ZooError(what, where=FILE, hint="mend the file, or remove it for the type's defaults") from error
    return dict(processor.to_dict())


def _defaults(config: Any) -> dict[str, Any]:
    """Return what the processor of the model's type says of itself; ImageNet's ways where it has none."""
    found = IMAGE_PROCESSOR_MAPPING.get(type(config), None)
    kinds = list(found.values()) if isinstance(found, Mapping) else list(found or ())
    kinds = [kind for kind in kinds if kind is not None]
    if not kinds:
        spec = zoo.InputSpec()
        return {"size": {"height": 224, "width": 224}, "image_mean": spec.mean, "image_std": spec.std, "resample": 3}
    return dict(kinds[0]().to_dict())


def _resized(facts: Mapping[str, Any], own: tuple[int, int]) -> dict[str, Any]:
    """Return a processor's facts for images of another size, cropped by the same share."""
    height, width = own
    size, crop = facts["size"], facts.get("crop_size")
    if facts.get("do_center_crop") and crop is not None:
        share = min(_pair(crop, own)) / min(_pair(size, own))
        shorter = round(min(own) / share)
        return {**facts, "size": {"shortest_edge": shorter}, "crop_size": {"height": height, "width": width}}
    if height == width and "shortest_edge" in size:
        return {**facts, "size": {"shortest_edge": height}}
    return {**facts, "size": {"height": height, "width": width}}


def _sizes(facts: Mapping[str, Any], repository: Repository) -> tuple[tuple[int, int], float]:
    """Return the (height, width) that the network gets, and the share of the resized image that it is."""
    size, crop = facts.get("size"), facts.get("crop_size")
    side = size if isinstance(size, int) else (size or {}).get("shortest_edge")
    if not facts.get("do_resize", True) or size is None:
        raise _refuse(repository, "images are not resized")
    if facts.get("rescale_factor") and abs(facts["rescale_factor"] * 255 - 1) > 1e-4:
        raise _refuse(repository, f"pixels are scaled by {facts['rescale_factor']:g}, not by 1/255")
    if facts.get("do_center_crop") and crop is not None:
        height, width = _pair(crop, (0, 0))
        longer = side or min(_pair(size, (0, 0)))
        return (height, width), min(1.0, min(height, width) / longer)
    if side is not None:
        return (side, side), (facts.get("crop_pct") or 1.0) if side < 384 else 1.0  # ConvNext's own rule
    height, width = _pair(size, (0, 0))
    if not height:
        raise _refuse(repository, f"size = {size}")
    return (height, width), 1.0


def _pair(given: Any, otherwise: tuple[int, int]) -> tuple[int, int]:
    if isinstance(given, int):
        return given, given
    if isinstance(given, Mapping):
        side = given.get("shortest_edge")
        return (side, side) if side else (given.get("height", 0), given.get("width", 0))
    return (given[0], given[1]) if given else otherwise


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _interpolation(facts: Mapping[str, Any], repository: Repository) -> Any:
    number = int(facts.get("resample", 2))
    if number not in RESAMPLE:
        raise _refuse(repository, f"resample = {number}")
    return RESAMPLE[number]


def _refuse(repository: Repository, reason: str) -> zoo.ZooError:
    what = f"zoo cannot prepare images as {repository.name!r} expects them: {reason}"
    return zoo.ZooError(what, where=FILE, hint="choose another model")
