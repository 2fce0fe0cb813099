"""One shard: what is in a tar file, by its headers, and what of it makes a sample."""

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zoo
from webdataset.tariterators import base_plus_ext

BLOCK = 512
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
"""How compressed files begin."""

Label = int | str


@dataclass(frozen=True)
class Wanted:
    """Extensions of image and label, and the member of a label that is JSON."""

    image: tuple[str, ...]
    label: str
    field: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A key, where its image lies in the shard (bytes), and its label: a class index or a class name."""

    key: str
    offset: int
    size: int
    label: Label


@dataclass
class _Group:
    """The files of one key, by extension."""

    key: str
    files: dict[str, tarfile.TarInfo] = field(default_factory=dict)


def read_shard(path: Path, wanted: Wanted) -> tuple[Sample, ...]:
    """Return a shard's samples in its own order; headers and labels are read, images passed over.

    ZooError: it is compressed, damaged or cut short, a key comes twice, or a sample has no image, two, or no label.
    """
    _check_plain(path)
    try:
        with tarfile.open(path, "r:") as tar:
            groups = list(_groups(tar, path))
            _check_end(path, tar.offset)  # first: what is cut off looks like samples without an image
            samples = tuple(_sample(tar, group, wanted, path) for group in groups)
    except tarfile.TarError as error:
        raise _damaged(path, str(error)) from error
    if not samples:
        raise zoo.ZooError("the shard has no samples", where=str(path), hint="leave it out")
    return samples


def _check_plain(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(8)
    for magic, name in COMPRESSED.items():
        if start.startswith(magic):
            what = f"the shard is compressed ({name}): an image in it cannot be read without all that lies before it"
            raise zoo.ZooError(what, where=str(path), hint="unpack it to a plain .tar; images are compressed already")


def _check_end(path: Path, end: int) -> None:
    """Refuse a shard whose last header is followed by anything but the zeros that end a tar file.

    tarfile ends quietly at a header that it cannot read, and at the end of a file that is cut between two members.
    """
    with path.open("rb") as file:
        file.seek(end)
        if file.read(BLOCK) != bytes(BLOCK):
            raise _damaged(path, f"there is neither a header nor the archive's end at byte {end:,}")


def _damaged(path: Path, reason: str) -> zoo.ZooError:
    return zoo.ZooError(f"the shard is damaged or cut short: {reason}", where=str(path), hint="fetch or write it anew")


def _groups(tar: tarfile.TarFile, path: Path) -> Iterator[_Group]:
    """Yield files that stand together and have one key, as webdataset groups them.

    ZooError: a key comes twice, an extension twice in a sample, or a file has holes.
    """
    seen: set[str] = set()
    group: _Group | None = None
    for member in tar:
        key, extension = base_plus_ext(member.name) if member.isreg() else (None, "")
        if not key or os.path.basename(member.name).startswith("."):  # macOS adds `._0001.jpg`
            continue
        if member.issparse():
            what = f"{member.name!r} is stored with holes (GNU sparse), so its bytes do not lie together"
            raise zoo.ZooError(what, where=str(path), hint="write the shard without `tar --sparse`")
        extension = extension.lower()
        if group is None or key != group.key:
            if group is not None:
                yield group
            if key in seen:
                what = f"the key {key!r} comes twice: its files do not stand together, or it is of two samples"
                raise zoo.ZooError(what, where=str(path), hint="write the shard with one key a sample")
            seen.add(key)
            group = _Group(key)
        if extension in group.files:
            what = f"the sample {key!r} has two files {member.name!r}"
            raise zoo.ZooError(what, where=str(path), hint="write the shard with one key a sample")
        group.files[extension] = member
    if group is not None:
        yield group


def _sample(tar: tarfile.TarFile, group: _Group, wanted: Wanted, path: Path) -> Sample:
    images = [extension for extension in group.files if extension in wanted.image]
    if len(images) != 1:
        some = f"{len(images)} images ({', '.join(images)})" if images else "no image"
        what = f"the sample {group.key!r} has {some}; its extensions are {_listed(group)}"
        raise zoo.ZooError(what, where=str(path), hint="set data.image to the extension that is the image's")
    if wanted.label not in group.files:
        what = f"the sample {group.key!r} has no label {wanted.label!r}; its extensions are {_listed(group)}"
        raise zoo.ZooError(what, where=str(path), hint="set data.label to the extension that is the label's")
    image = group.files[images[0]]
    content = tar.extractfile(group.files[wanted.label])
    label = _label(content.read() if content else b"", group.key, wanted, path)
    return Sample(group.key, image.offset_data, image.size, label)


def _listed(group: _Group) -> str:
    return ", ".join(map(repr, group.files))


def _label(content: bytes, key: str, wanted: Wanted, path: Path) -> Label:
    """Return what a label file says. ZooError: no class index, no class name, or no such member."""
    try:
        text = content.decode("utf-8").strip()
        value = _member(text, wanted.field) if wanted.label.rpartition(".")[2] == "json" else text
        found = int(value) if wanted.label.rpartition(".")[2] == "cls" else value
    except (ValueError, KeyError, TypeError) as error:
        what = f"the label of {key!r} is {content[:60]!r}, which {_expected(wanted)}"
        raise zoo.ZooError(what, where=str(path), hint="set data.label and data.field to what is the label") from error
    if type(found) is int and found >= 0:
        return found
    if isinstance(found, str) and found:
        return found
    what = f"the sample {key!r} is not labelled: {found!r}"
    raise zoo.ZooError(what, where=str(path), hint="class indices begin at 0: leave such samples out")


def _member(text: str, name: str) -> Label:
    found: Label = json.loads(text)[name]
    return found


def _expected(wanted: Wanted) -> str:
    kind = wanted.label.rpartition(".")[2]
    if kind == "json":
        return f"has no member {wanted.field!r}"
    return "is no class index" if kind == "cls" else "is no text in UTF-8"
