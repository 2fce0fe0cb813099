"""A model's repository: a model type alone, a folder, or a name on the hub."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import zoo
from transformers import AutoConfig
from transformers.utils import cached_file


@dataclass(frozen=True)
class Repository:
    """A configuration, and the way to the files beside it; of a model type alone there are none."""

    name: str
    config: Any
    find: Callable[[str], Path | None]
    revision: str | None = None


def open_repository(name: str, revision: str | None, types: Sequence[str]) -> Repository:
    """Return what `name` means: a folder with config.json, a name on the hub (`owner/name`), or one of `types`.

    ZooError: it means nothing, or is no image classifier.
    """
    if Path(name).is_dir():
        return _checked(Repository(name, _config(name, None), lambda file: _beside(Path(name), file)), types)
    if name in types:
        return Repository(name, AutoConfig.for_model(name), lambda file: None)
    if "/" not in name:
        close = get_close_matches(name, types, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "`zoo list backbone` shows all of them"
        raise zoo.ZooError(f"transformers has no image classifier {name!r}", where="[backbone] arch", hint=hint)
    config = _config(name, revision)

    def find(file: str) -> Path | None:
        found = cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)
        return Path(found) if found else None

    return _checked(Repository(name, config, find, revision), types)


def _beside(folder: Path, file: str) -> Path | None:
    return folder / file if (folder / file).is_file() else None


def _config(name: str, revision: str | None) -> Any:
    try:
        return AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        what = f"there is no configuration of transformers in {name!r}: {str(error).strip().splitlines()[0]}"
        hint = "name a folder with config.json, a name on the hub, or a model type"
        raise zoo.ZooError(what, where="[backbone] arch", hint=hint) from error


def _checked(repository: Repository, types: Sequence[str]) -> Repository:
    kind = repository.config.model_type
    if kind not in types:
        what = f"transformers has no image classifier of the type {kind!r}, which {repository.name!r} is"
        raise zoo.ZooError(what, where="[backbone] arch", hint="`zoo list backbone` shows the types that it has")
    return repository
