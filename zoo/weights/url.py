"""Weights at an address of the web."""

from functools import partial

from zoo.errors import WeightsError
from zoo.registry.builtin.weights import UrlOptions
from zoo.registry.contracts import WeightsFile, WeightsRequest
from zoo.weights.cache import fetched
from zoo.weights.download import download, file_name, shown
from zoo.weights.reading import SUFFIXES

SINGLE = tuple(suffix for suffix in SUFFIXES if not suffix.endswith(".json"))
"""Suffixes of checkpoints that are one file: an index lists others, of which no sha256 is known."""


def build(options: UrlOptions, request: WeightsRequest) -> WeightsFile:
    """Return the file, downloaded into the cache unless it lies there.

    WeightsError: the address names no checkpoint, it cannot be had (see `download`), or its SHA-256 is another.
    """
    name = file_name(options.url)
    if not name.endswith(SINGLE):
        what = f"the address ends in {name!r}, which is no kind of checkpoint that zoo reads"
        raise WeightsError(what, where=shown(options.url), hint=f"one of: {', '.join(SINGLE)}")
    found = fetched(request.cache, name, options.sha256, partial(download, options.url))
    return WeightsFile(
        found.path,
        origin=f"url {shown(options.url)}",
        sha256=found.sha256,
        rename=tuple(options.rename),
        align=options.align,
    )
