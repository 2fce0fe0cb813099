"""Who offers a part, and who offered a run's parts when it was made."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OWN = ("zoo", "zoo-finetune")
"""zoo's own plugin and distribution, which are always there."""

RECORD = "environment.json"
"""The file of a run's folder that has the owners, beside its recipe."""
COPIES = "plugins"
"""The folder in a run's folder with copies of the local files that its parts came from."""


@dataclass(frozen=True)
class Owner:
    """Who offers a part: the distribution, its version, and the plugin's entry-point name in it.

    For a local file (`file`, its absolute path) `distribution` is its path as it was given, `version` its SHA-256.
    """

    distribution: str
    version: str
    plugin: str
    file: Path | None = None

    def __str__(self) -> str:
        between = " " if self.file is None else ", "
        return f"{self.plugin} ({self.distribution}{between}{self._version()})"

    def _version(self) -> str:
        return self.version if self.file is None else f"sha256 {self.version[:8]}"

    def short(self) -> str:
        """Return the distribution and its version in a few words."""
        return f"{self.distribution} {self._version()}"

    @property
    def is_zoo(self) -> bool:
        """Whether it is zoo itself."""
        return (self.plugin, self.distribution) == OWN

    def report(self) -> str:
        """Return the mend of what only a plugin's author can mend."""
        return "mend the file" if self.file else f"report this to the author of {self.distribution}"

    def get(self) -> str:
        """Return how to have just this again: the pip command, or the option that names the file."""
        return f"pip install {self.distribution}=={self.version}" if self.file is None else f"--plugin {self.file}"

    def is_as(self, other: "Owner") -> bool:
        """Return whether the code is the same, as far as versions tell. Where a file lies does not matter."""
        if self.file is not None or other.file is not None:
            return bool(self.file and other.file) and self.version == other.version
        return (self.distribution, self.version) == (other.distribution, other.version)

    def as_dict(self) -> dict[str, Any]:
        """Return what a run records."""
        kept = None if self.file is None else f"{COPIES}/{self.file.name}"
        return {"plugin": self.plugin, "distribution": self.distribution, "version": self.version, "file": kept}


def read_owners(folder: Path) -> dict[str, Owner]:
    """Return who offered the parts of the run in `folder`, as {"head linear": owner}; empty where it does not say."""
    try:
        owners = json.loads((folder / RECORD).read_text(encoding="utf-8"))["owners"]
        return {part: _owner(found, folder) for part, found in owners.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no run's folder, or not a whole one
        return {}


def _owner(found: Mapping[str, Any], folder: Path) -> Owner:
    file = found["file"]
    return Owner(found["distribution"], found["version"], found["plugin"], folder / file if file else None)
