"""Write files so that a crash leaves either the old one or the new one, whole."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCK = 1 << 20


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) to a temporary file beside it, flush it to disk, and rename it."""
    with write_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextmanager
def write_file(path: Path) -> Iterator[Path]:
    """Give the path of an empty file to fill, beside `path`; when the block ends well it is flushed and renamed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        sync_file(Path(name))
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    sync_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends well its files are flushed and it takes the name `path`.

    A folder that has the name is replaced. When the block fails nothing is left behind and the old one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield draft
        for file in draft.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)  # some writers give the owner alone
            sync_file(file)
        draft.chmod(0o755)
        _swap(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync_folder(path.parent)


def _swap(draft: Path, path: Path) -> None:
    """Move the old folder aside first: a rename cannot replace a folder that has files."""
    if not path.exists():
        os.rename(draft, path)
        return
    aside = path.with_name(f".{path.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(path, aside)
    os.rename(draft, path)
    shutil.rmtree(aside, ignore_errors=True)


def sync_file(path: Path) -> None:
    """Flush a file's bytes to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power cut."""
    sync_file(path)
