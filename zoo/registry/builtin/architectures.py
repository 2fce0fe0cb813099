"""The names of timm's and torchvision's architectures, read from their source so that a check imports neither."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from zoo.errors import nearest

# Both libraries register a builder by a decorator and under the function's own name; torchvision may give another one.
_REGISTERED = re.compile(r"^@register_model\b(?:\(\s*(?:name\s*=\s*)?[\"'](\w+)[\"'])?.*?^def (\w+)\(", re.M | re.S)


@cache
def known(library: str) -> frozenset[str]:
    """Return the names of the architectures in `library` ("timm", "torchvision").

    Only files of its `models` folder are read, not those below it: torchvision's detection, video, … are left out.
    Empty when the library's source is not to be found as files (zipped, or not installed).
    """
    files = (file for folder in _model_folders(library) for file in folder.glob("*.py"))
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in files)
    return frozenset(given or function for text in texts for given, function in _REGISTERED.findall(text))


def _model_folders(library: str) -> list[Path]:
    # A top-level name is looked up without importing anything; "timm.models" would import timm.
    spec = find_spec(library)
    return [Path(place) / "models" for place in (spec.submodule_search_locations or ())] if spec else []


def require(library: str, arch: str) -> None:
    """Refuse a name that `library` does not have. ValueError names the nearest; anything passes while none is known."""
    names = known(library)
    if names and arch not in names:
        raise ValueError(f"{library} has no architecture {arch!r}; {nearest(arch, names)}")
