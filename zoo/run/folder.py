"""The run folder: where everything of one run lies, and who may write there."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import tomli

from zoo.errors import RunError
from zoo.files import write_file, write_text
from zoo.registry.owner import COPIES, Owner
from zoo.run.lock import NAME as LOCK
from zoo.run.lock import cannot_write, check_free, locked

PARTS = (
    "recipe.toml",
    "environment.json",
    "load.json",
    "audit.json",
    "classes.txt",
    "metrics.jsonl",
    "bad_images.txt",
    "checkpoints",
    "export",
    "log.txt",
    COPIES,
)
"""What a run writes. `--overwrite` removes these, what callbacks keep under their own names, and nothing else."""

LAUNCH = "TORCHELASTIC_RUN_ID"
"""The environment variable by which torch's launcher names what it launched, also after it has replaced a process."""

RECORDED = ("zoo-finetune", "torch", "torchvision", "timm", "numpy", "safetensors", "pillow", "pluggy", "pydantic")
"""Distributions whose versions a run records, beside those of its plugins."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, by the paths in it."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe: it repeats the run."""
        return self.path / "recipe.toml"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints' folder."""
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        """The bundle."""
        return self.path / "export"

    def is_used(self) -> bool:
        """Return whether a run has begun here."""
        return self.recipe.exists()

    def read_json(self, name: str) -> Any:
        """Return what `write_json` wrote into the file `name`. RunError: it is not there, or damaged."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            what = f"cannot read {name}: {error}"
            raise RunError(what, where=str(self.path), hint="run the recipe again") from error

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` as JSON into the file `name`. RunError: it cannot be written (disk full)."""
        self._write(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def write_lines(self, name: str, lines: Sequence[str]) -> None:
        """Write `lines` into the file `name`. RunError: it cannot be written (disk full)."""
        self._write(name, "".join(f"{line}\n" for line in lines))

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write `data` into the file `name`, in a folder of the run's. RunError: it cannot be written (disk full)."""
        path = self.path / name
        try:
            path.parent.mkdir(exist_ok=True)
            with write_file(path) as draft:
                draft.write_bytes(data)
        except OSError as error:
            raise cannot_write(self.path, name, error) from error

    def _write(self, name: str, text: str) -> None:
        try:
            write_text(self.path / name, text)
        except OSError as error:
            raise cannot_write(self.path, name, error) from error


def check_folder(out: Path | None, *, resume: bool = False, overwrite: bool = False) -> None:
    """Refuse a folder that a run cannot use, before any work is done; nothing is changed.

    RunError: `out` is used and neither `resume` nor `overwrite` is given, or holds what is not a run's; or there is
    nothing to resume; or both are given; or a run is going on there.
    """
    if resume and overwrite:
        raise RunError("--resume goes on with a run and --overwrite removes it", hint="leave out one of them")
    if out is None:
        if resume or overwrite:
            raise RunError("which run? --resume and --overwrite need its folder", hint="add --out RUN")
        return
    check_free(out)
    if resume:
        if not RunFolder(out).is_used() and not is_stub(out):
            raise RunError(f"there is no run in {str(out)!r} to resume", hint="leave out --resume to start one")
    elif out.exists():
        _check_entries(out, overwrite)


@contextmanager
def open_folder(out: Path | None, name: str, *, resume: bool = False, overwrite: bool = False) -> Iterator[RunFolder]:
    """Give the folder for a run called `name`: `out`, or a new one below `runs/`; no other run can open it meanwhile.

    RunError: see `check_folder`.
    """
    check_folder(out, resume=resume, overwrite=overwrite)
    path = _new_folder(Path("runs"), name) if out is None else out
    _mkdir(path)
    with locked(path):
        for entry in [*_drafts(path), *([path / name for name in _parts(path)] if overwrite else [])]:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
        yield RunFolder(path)


def _parts(path: Path) -> tuple[str, ...]:
    """Return what is a run's in its folder: `PARTS`, and what a callback of its recipe keeps under its part's name.

    No part has `..` or a path for a name, whatever the file says.
    """
    try:
        found = tomli.loads((path / "recipe.toml").read_text(encoding="utf-8")).get("callback", [])
        names = [str(table["use"]) for table in found]
    except (OSError, ValueError, LookupError, TypeError):  # no recipe, or one that somebody has spoilt
        names = []
    return (*PARTS, *(name for name in names if re.fullmatch(r"[A-Za-z][\w.-]*", name)))


def is_stub(path: Path) -> bool:
    """Return whether a run was started in the folder `path` and killed before its first step."""
    return (path / LOCK).exists() and not RunFolder(path).is_used() and not RunFolder(path).checkpoints.exists()


def was_launched() -> bool:
    """Return whether a launcher that names its launches started this process; torchrun calls all "none" by default."""
    return os.environ.get(LAUNCH, "none") != "none"


def is_of_this_launch(path: Path) -> bool:
    """Return whether the run in the folder `path` was begun by the launcher that started this process (again)."""
    try:
        begun = RunFolder(path).read_json("environment.json")
    except RunError:
        return False
    return was_launched() and begun.get("launch") == os.environ[LAUNCH]


def new_folder_for(name: str) -> Path:
    """Make and return a new folder below `runs/` for a run called `name`."""
    return _new_folder(Path("runs"), name)


def _drafts(path: Path) -> list[Path]:
    """What a killed process had not finished writing: in `path` only names as `mkstemp` makes them are zoo's."""
    inside = [path / "checkpoints", path / "export", path / COPIES]
    return [found for name in PARTS for found in path.glob(f".{name}.????????")] + [
        found for folder in inside for found in folder.glob(".*")
    ]


def existing_folder(path: Path) -> RunFolder:
    """Return the folder of a run that was made before. RunError: `path` is not one."""
    folder = RunFolder(path)
    if (path / "model.json").exists():
        hint = "name the run's folder; `zoo evaluate` takes a bundle with a folder of images, `zoo verify` alone"
        raise RunError(f"{str(path)!r} is a bundle, not a run's folder", hint=hint)
    if not folder.is_used():
        runs = sorted(str(found.parent) for found in Path("runs").glob("*/recipe.toml"))
        hint = f"here are {', '.join(runs[-8:])}" if runs else "make one with `zoo finetune RECIPE`"
        raise RunError(f"{str(path)!r} is not a run's folder: it has no recipe.toml", hint=hint)
    return folder


def _new_folder(parent: Path, name: str) -> Path:
    """mkdir decides who has a name: two runs started at once get two folders."""
    _mkdir(parent)
    for number in range(1, 100_000):
        path = parent / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            try:
                path.mkdir()
            except FileExistsError:
                continue
            except OSError as error:
                raise _cannot_make(path, error) from error
            return path
    raise RunError(f"{parent} is full of runs called {name!r}", hint="choose another run.name, or remove some")


def _mkdir(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_make(path, error) from error


def _cannot_make(path: Path, error: OSError) -> RunError:
    return RunError(f"cannot make the run's folder: {error}", where=str(path), hint="choose another with --out")


def _check_entries(path: Path, overwrite: bool) -> None:
    if not path.is_dir():
        raise RunError(f"{str(path)!r} is a file", hint="choose another folder with --out")
    present = sorted(entry.name for entry in {*path.iterdir()} - {path / LOCK, *_drafts(path)})
    parts = _parts(path)
    foreign = [name for name in present if name not in parts]
    if foreign:
        what = f"{str(path)!r} holds what is not a run's: {', '.join(foreign[:5])}"
        raise RunError(what, hint="choose another folder with --out")
    if present and not overwrite:
        hint = "go on with it by --resume, start again by --overwrite, or choose another --out"
        raise RunError(f"{str(path)!r} holds a run already", hint=hint)


def versions() -> dict[str, str]:
    """Return the versions that a run records."""
    return {name: found for name in RECORDED if (found := _version(name))}


def environment(owners: Mapping[str, Owner], device: str) -> dict[str, Any]:
    """Return what a run records of where it ran. `owners` is {part: who offers it}, `device` the device in words."""
    return {
        "versions": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"name": platform.processor() or platform.machine(), "count": os.cpu_count()},
        "device": device,
        "parts": {part: str(owner) for part, owner in owners.items()},
        "owners": {part: owner.as_dict() for part, owner in owners.items()},
        "git": _git_revision(),
        "command": sys.argv,
        "launch": os.environ.get(LAUNCH),
    }


def _version(distribution: str) -> str | None:
    try:
        return str(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The revision of the working folder, with "+" when something in it is not committed."""
    try:
        options: dict[str, Any] = {"capture_output": True, "text": True, "check": True, "timeout": 10}
        revision = str(subprocess.run(["git", "rev-parse", "HEAD"], **options).stdout).strip()
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+" if dirty else "")
