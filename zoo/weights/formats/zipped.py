"""Zip archives: what is in them is what was put there, and not endlessly more."""

import struct
import zipfile
import zlib
from pathlib import Path

from zoo.errors import WeightsError
from zoo.weights.formats.damage import DAMAGED

MOST = 1 << 30  # bytes unpacked that need no reason
RATIO = 64  # unpacked over packed; trained weights hardly pack at all


def require_no_bomb(path: Path) -> bool:
    """WeightsError when the archive declares more than 64 times its own size, and more than 1 GiB.

    Return whether every entry is stored as it is, so that it may be mapped.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    size, declared = path.stat().st_size, sum(entry.file_size for entry in entries)
    if declared > MOST and declared > RATIO * size:
        raise WeightsError(
            f"{path.name} has {size:,} bytes and would unpack to {declared:,}",
            where=str(path),
            hint="no checkpoint packs so well: do not trust where it came from",
        )
    return all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)


def require_sound(path: Path) -> None:
    """WeightsError when an entry's bytes do not give the checksum that the archive has for them."""
    # torch.load does not compare them: a flipped bit would become a weight.
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path.name} is damaged: {error}", where=str(path), hint=DAMAGED) from error
    if bad is not None:
        raise WeightsError(
            f"{path.name} is damaged: the checksum of {bad!r} in it is wrong",
            where=str(path),
            hint="download it again; if it was saved without checksums, give its sha256",
        )
