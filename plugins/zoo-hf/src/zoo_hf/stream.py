"""A stream, read once: its first rows, encoded as they came, in a file of zoo's cache that all later runs map.

What decides the rows is in the file's name: path, configuration, revision, split, limit, columns, and of local files
their names, sizes and times. A file is there whole or not at all.
"""

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import zoo
from datasets.arrow_writer import ArrowWriter
from datasets.utils.file_utils import xopen
from filelock import FileLock

from zoo_hf.columns import Columns
from zoo_hf.plugin import HfDataOptions


def keep(stream: Any, columns: Columns, options: HfDataOptions, split: str) -> Any:
    """Return the first rows of a stream as a memory-mapped data set; the first process that asks reads the source.

    ZooError: the source cannot be read to the limit or its end.
    """
    limit = options.train_limit if split == options.train else options.val_limit or options.train_limit
    path = zoo.cache_folder() / "hf" / f"{_key(options, columns, split, limit)}.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            _read(stream, columns, limit, path, f"{options.path}/{split}")
    return datasets.Dataset.from_file(str(path))


def _read(stream: Any, columns: Columns, limit: int | None, path: Path, where: str) -> None:
    with zoo.write_file(path) as draft:
        writer = ArrowWriter(features=stream.features, path=str(draft))
        try:
            for row in islice(stream, limit):
                writer.write({**row, columns.image: _embedded(row[columns.image])})
            writer.finalize()
        except (OSError, ValueError) as error:
            what = f"the stream cannot be read: {str(error).splitlines()[0]}"
            raise zoo.ZooError(what, where=where, hint="nothing of it was kept; try again") from error
        finally:
            writer.close()


def _embedded(stored: Any) -> Any:
    """Return the image with its bytes, which an image folder leaves in files."""
    if stored is None or stored["bytes"] is not None:
        return stored
    with xopen(stored["path"], "rb") as file:
        return {"bytes": file.read(), "path": os.path.basename(stored["path"])}


def _key(options: HfDataOptions, columns: Columns, split: str, limit: int | None) -> str:
    chosen = options.model_dump(include={"path", "name", "revision", "data_files", "data_dir"})
    files = [(str(file), *_stamp(file)) for file in sorted(set(_local_files(options)))]
    facts = [chosen, files, split, limit, columns.image, columns.label]
    return hashlib.sha256(json.dumps(facts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _local_files(options: HfDataOptions) -> Iterator[Path]:
    """Yield the local files that a data set may be made of; what the hub has is told by its revision."""
    roots = [Path(options.path), *([Path(options.data_dir)] if options.data_dir else [])]
    for root in roots:
        yield from _below(root)
    for pattern in _patterns(options.data_files):
        for base in ("", options.path, options.data_dir or ""):
            for found in glob.glob(os.path.join(base, pattern), recursive=True):
                yield from _below(Path(found))


def _below(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root.resolve()
    elif root.is_dir():
        yield from (file.resolve() for file in root.rglob("*") if file.is_file())


def _patterns(files: Any) -> Iterable[str]:
    if isinstance(files, dict):
        return [pattern for listed in files.values() for pattern in _patterns(listed)]
    return [files] if isinstance(files, str) else files or []
