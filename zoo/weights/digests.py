"""SHA-256 of files; that of a large one is remembered for as long as nothing says that its bytes changed."""

import json
import time
from contextlib import suppress
from pathlib import Path

from zoo.files import sha256, write_text
from zoo.weights.places import cache_folder

LARGE = 64 << 20  # bytes; hashing fewer takes less than a tenth of a second
SETTLED = 2.0  # seconds; a file changed more recently could change again within one tick of its clock
MOST = 256  # digests that are kept


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in lower-case hex.

    A file of `LARGE` bytes or more that was hashed before is not read again while its device, inode and size are the
    same, and the times when its bytes and its attributes last changed; the latter cannot be set back. OSError:
    unreadable.
    """
    status = path.stat()
    if status.st_size < LARGE or time.time() - status.st_ctime < SETTLED:
        return sha256(path)
    key = "-".join(map(str, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)))
    known = _known().get(key)
    return known if known is not None else _remembered(key, sha256(path))


def _note() -> Path:
    return cache_folder() / "digests.json"


def _known() -> dict[str, str]:
    try:
        known = json.loads(_note().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and all(isinstance(digest, str) for digest in known.values()) else {}


def _remembered(key: str, digest: str) -> str:
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        _note().parent.mkdir(parents=True, exist_ok=True)
        kept = list((_known() | {key: digest}).items())[-MOST:]
        write_text(_note(), json.dumps(dict(kept)))
    return digest
