"""What a recipe requires to be installed, as PEP 508 says it, held against what is."""

from importlib import metadata

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from zoo import __version__


def parse(text: str) -> Requirement:
    """Return a requirement: a name, versions, a marker. ValueError says what is wrong with it."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f'is no requirement such as "zoo-timm>=1.2": {str(error).splitlines()[0]}') from None
    if requirement.url:
        raise ValueError("names a URL: only names and versions can be checked")
    return requirement


def unmet(text: str) -> tuple[str, str]:
    """Return how a requirement that `parse` takes is not met, and the mend; empty when it is, or is not meant here."""
    requirement = parse(text)
    if not _is_meant(requirement):
        return "", ""
    mend = f"pip install '{requirement}'"
    found = _version(requirement.name)
    if found is None:
        return "it is not installed", mend
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name} {found} is installed", mend
    return "", ""


def _is_meant(requirement: Requirement) -> bool:
    """Whether the marker, if any, holds here: one that asks for an extra does not."""
    try:
        return requirement.marker is None or requirement.marker.evaluate()
    except UndefinedEnvironmentName:
        return False


def _version(name: str) -> str | None:
    if canonicalize_name(name) == "zoo-finetune":
        return __version__
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
