"""What is in a shard, kept: a file in the cache, named after the shard's path, size and time and what is looked for."""

import hashlib
import json
from pathlib import Path

import zoo
from filelock import FileLock

from zoo_webdataset.shard import Sample, Wanted, read_shard

FORMAT = 1


def index_shard(path: Path, wanted: Wanted) -> tuple[Sample, ...]:
    """Return a shard's samples: from the cache, or read from the shard and kept. ZooError: see `read_shard`."""
    kept = zoo.cache_folder() / "webdataset" / f"{_key(path, wanted)}.json"
    found = _read(kept)
    if found is None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{kept}.lock"):
            found = _read(kept)  # another process may have written it meanwhile
            if found is None:
                found = read_shard(path, wanted)
                _write(kept, found)
    return found


def _key(path: Path, wanted: Wanted) -> str:
    found = path.stat()
    facts = [FORMAT, str(path.resolve()), found.st_size, found.st_mtime_ns, wanted.image, wanted.label, wanted.field]
    return hashlib.sha256(json.dumps(facts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _write(kept: Path, samples: tuple[Sample, ...]) -> None:
    columns = [[getattr(sample, name) for sample in samples] for name in ("key", "offset", "size", "label")]
    text = json.dumps(columns)
    with zoo.write_file(kept) as draft:
        draft.write_text(f"{_digest(text)}\n{text}", encoding="utf-8")


def _read(kept: Path) -> tuple[Sample, ...] | None:
    """Return what was kept; None when there is nothing, or it is not what was written."""
    try:
        digest, _, text = kept.read_text(encoding="utf-8").partition("\n")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    if digest != _digest(text):
        return None
    return tuple(Sample(*row) for row in zip(*json.loads(text), strict=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
