"""A local file as a plugin: named on the command line, imported under its own name, known by its SHA-256."""

import hashlib
import keyword
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from zoo.errors import PluginError
from zoo.registry.discovery import Candidate
from zoo.registry.faults import NotAPluginError
from zoo.registry.owner import Owner

_SOURCES: dict[str, bytes] = {}
"""What was read, by its SHA-256."""
_LOADED: dict[str, str] = {}
"""The modules that were made of it, by their names: their SHA-256."""

_ADDED: set[str] = set()
"""Folders that are on `sys.path` because of a local file: what is installed in them does not count."""


@dataclass(frozen=True)
class LocalFile:
    """A file of parts: its path as it was given, the absolute one, and the SHA-256 of its bytes when it was named."""

    given: str
    path: Path
    sha256: str
    added: bool = False
    """Whether its folder is on `sys.path` because of it alone."""


def look_at(given: "str | Path | LocalFile") -> LocalFile:
    """Return the file that is named. PluginError: there is none, its name is no module's of its own, or it has changed.

    Its folder is put at the end of `sys.path`: processes that this one starts find its classes by their names.
    """
    if isinstance(given, LocalFile):
        again = look_at(given.path)
        if again.sha256 != given.sha256:
            what = (
                f"{given.given} has changed since it was read: sha256 {given.sha256[:8]} then, {again.sha256[:8]} now"
            )
            raise PluginError(what, where=str(given.path), hint="put it back, or start again")
        return given
    path = _found(given)
    _check_name(str(given), path)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
        _ADDED.add(folder)
    return LocalFile(str(given), path, hashlib.sha256(_read(path)).hexdigest(), folder in _ADDED)


def _found(given: str | Path) -> Path:
    hint = "--plugin FILE.py takes the parts of a file"
    try:
        path = Path(given).resolve()
        is_file = path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise PluginError(f"cannot read {str(given)!r}: {error.strerror}", hint=hint) from error
    except RuntimeError as error:  # pathlib's for links in a circle
        raise PluginError(f"cannot read {str(given)!r}: its links go in a circle", hint=hint) from error
    if path.suffix != ".py" or not is_file:
        raise PluginError(f"there is no Python file {str(given)!r}", hint=hint)
    return path


def _check_name(given: str, path: Path) -> None:
    """The file becomes the module of its name: PluginError where that is no name, or another module's."""
    name = path.stem
    if not name.isidentifier() or keyword.iskeyword(name):
        raise PluginError(f"{given} cannot be imported: {name!r} is no module's name", hint="rename the file")
    for origin in _origins(name, path.parent):
        if origin is not None and Path(origin).resolve() != path:
            what = f"{given} cannot be imported: {name!r} is the name of another module"
            raise PluginError(what, where=origin, hint="rename the file")


def _origins(name: str, folder: Path) -> Iterator[str | None]:
    """Where the module of that name comes from: here, and in a process that finds it in `folder` (`name/` is first)."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        yield getattr(loaded, "__file__", "built-in")
    specs = (None if loaded else find_spec(name), PathFinder.find_spec(name, [str(folder)]))
    yield from (spec.origin for spec in specs if spec is not None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PluginError(f"cannot read {str(path)!r}: {error.strerror}", hint="let it be read") from error


def local_candidate(file: LocalFile) -> Candidate:
    """Return the plugin that a file is."""
    owner = Owner(file.given, file.sha256, file.path.stem, file.path)
    return Candidate(owner, partial(load, file), file.path.stem, hurried=False)


def load(file: LocalFile) -> ModuleType:
    """Return the file's module, from `sys.modules` where it is there: its classes must stay the same objects.

    NotAPluginError: the file has changed. Whatever its code raises.
    """
    name, path = file.path.stem, file.path
    there = sys.modules.get(name)
    if there is not None and _LOADED.get(name) == file.sha256:
        return there
    source = path.read_bytes()
    if hashlib.sha256(source).hexdigest() != file.sha256:
        raise NotAPluginError("has changed since it was read")
    _SOURCES[file.sha256] = source
    if there is not None and name not in _LOADED:  # pickle has imported it, in a process that another one started
        _LOADED[name] = file.sha256
        return there
    spec = spec_from_file_location(name, path)
    if spec is None:
        raise NotAPluginError("is no Python file")
    module = module_from_spec(spec)
    code = compile(source, str(path), "exec")  # these bytes, and no older ones of __pycache__
    sys.modules[name] = module
    try:
        exec(code, vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    _LOADED[name] = file.sha256
    return module


def source_of(sha256: str) -> bytes:
    """Return the bytes of a file that `load` has read in this process."""
    return _SOURCES[sha256]


def look_at_all(files: "Sequence[str | Path | LocalFile]") -> tuple[LocalFile, ...]:
    """Return the files that are named, each once, by its first name. PluginError: see `look_at`."""
    found: dict[Path, LocalFile] = {}
    for file in files:
        looked_at = look_at(file)
        found.setdefault(looked_at.path, looked_at)
    return tuple(found.values())
