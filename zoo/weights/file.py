"""Weights in a file of the user's."""

from zoo.registry.builtin.weights import FileOptions
from zoo.registry.contracts import WeightsFile, WeightsRequest
from zoo.weights.reading import require_file


def build(options: FileOptions, request: WeightsRequest) -> WeightsFile:
    """Return the file. WeightsError: it is missing, empty, a folder, or of no kind that zoo reads."""
    require_file(options.file)
    return WeightsFile(
        options.file,
        origin=f"file {options.file}",
        sha256=options.sha256,
        rename=tuple(options.rename),
        align=options.align,
    )
