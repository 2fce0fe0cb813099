"""What `zoo plugins new` writes: templates below `templates/`, with names filled in."""

import errno
import keyword
import re
from dataclasses import asdict, dataclass
from datetime import date
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template

from zoo import __version__
from zoo.errors import ZooError, nearest
from zoo.files import write_text
from zoo.registry import kinds, load_registry
from zoo.registry.api import API

TEMPLATES = resources.files("zoo.scaffold") / "templates"
KIND_NAMES = {"exporter": kinds.EXPORT.name}
"""What people call a kind, and its word."""
KEYS = {"weights": 'folder = "checkpoints"\n', "data": 'table = "images/table.csv"\n'}
"""Options that a part needs, as they stand in the README's recipe."""


@dataclass(frozen=True)
class Project:
    """A new plugin: its distribution's name, the kind of its part, and what follows from both."""

    name: str
    kind: str
    package: str
    plugin: str
    part: str
    table: str
    keys: str
    summary: str
    zoo: str
    api: str
    year: str


def describe(name: str, kind: str) -> Project:
    """Return the project for a distribution's name ("zoo-tiny") and a kind of part ("backbone").

    ZooError: it is no name, its package is there already, zoo has a part of its name, or there is no such kind.
    """
    kind = KIND_NAMES.get(kind, kind)
    if kind not in kinds.BY_NAME:
        raise ZooError(f"there is no kind of part {kind!r}", where="--kind", hint=nearest(kind, kinds.BY_NAME))
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*", name):
        hint = "letters and digits, a letter first, words joined by `-`: zoo-tiny"
        raise ZooError(f"{name!r} is no name for a distribution", where="NAME", hint=hint)
    package = name.lower().replace("-", "_")
    if keyword.iskeyword(package):
        what = f"{package!r} is a word of Python's own: no package can be called that"
        raise ZooError(what, where="NAME", hint=f"choose another name: zoo-{package}")
    if find_spec(package) is not None:
        raise ZooError(f"there is a package {package!r} already", where="NAME", hint="choose another name")
    part = name.lower().removeprefix("zoo-").removeprefix("zoo_")
    _check_part(part, kind)
    return Project(
        name=name,
        kind=kind,
        package=package,
        plugin=package.removeprefix("zoo_"),
        part=part,
        table=f"[[{kind}]]" if kind in ("export", "callback") else f"[{kind}]",
        keys=KEYS.get(kind, ""),
        summary=f"The {kind} `{part}` for zoo.",
        zoo=__version__,
        api="v" + API.replace(".", "_"),
        year=str(date.today().year),
    )


def _check_part(part: str, kind: str) -> None:
    """ZooError: `part` is no part's name, or one of zoo's own has it."""
    if not part[0].isalpha():
        hint = f"a letter first: zoo-my{part}"
        raise ZooError(f"{part!r} is no name for a part", where="NAME", hint=hint)
    if part in {owned.part.name for owned in load_registry(candidates=()).parts(kinds.BY_NAME[kind])}:
        what = f"zoo has a {kind} {part!r} of its own: recipes that use it would be refused where both are installed"
        raise ZooError(what, where="NAME", hint=f"choose another name: zoo-my-{part}")


def write(project: Project, folder: Path) -> tuple[Path, ...]:
    """Write the project into `folder`, which is new or empty, and return its files.

    ZooError: it is neither, or cannot be written.
    """
    try:
        _check_folder(folder)
        files = {folder / path: _filled(template, project) for path, template in _layout(project).items()}
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
    except OSError as error:
        too_long = error.errno == errno.ENAMETOOLONG
        hint = "choose a shorter name" if too_long else "name a folder that can be made, with --into"
        raise ZooError(f"cannot write the project: {error.strerror}", where=str(folder), hint=hint) from error
    return tuple(files)


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ZooError(f"{str(folder)!r} is a file", where="--into", hint="name a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise ZooError(f"{str(folder)!r} is not empty", where="--into", hint="name a new folder")


def _layout(project: Project) -> dict[str, str]:
    """Where each template goes, below the project's folder."""
    source = f"src/{project.package}"
    return {
        "pyproject.toml": "project/pyproject.toml",
        "README.md": "project/README.md",
        "LICENSE": "project/LICENSE",
        ".gitignore": "project/gitignore",
        ".github/workflows/ci.yml": "project/ci.yml",
        f"{source}/__init__.py": "project/init.py",
        f"{source}/py.typed": "",
        f"{source}/plugin.py": f"{project.kind}/plugin.py",
        f"{source}/{project.kind}.py": f"{project.kind}/{project.kind}.py",
        f"tests/test_{project.package}.py": "project/test.py",
    }


def _filled(template: str, project: Project) -> str:
    if not template:
        return ""
    text = (TEMPLATES / f"{template}.tmpl").read_text(encoding="utf-8")
    return Template(text).substitute(asdict(project))
