"""The one safe way out of a file that asks for code: its tensors to safetensors, and a record of what was left."""

import json
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from zoo.errors import WeightsError
from zoo.files import sha256, write_file, write_text
from zoo.weights.branches import require_answered, take_branch
from zoo.weights.containers import unwrap
from zoo.weights.formats.inert import Inert
from zoo.weights.formats.kinds import find_kind
from zoo.weights.formats.pickled import Thawed, read_inert
from zoo.weights.formats.zipped import require_no_bomb, require_sound
from zoo.weights.paths import require_file, stamp
from zoo.weights.reading import read_content

SUFFIX = ".safetensors"
KEPT = 2000  # characters of a text that is kept beside the tensors
SAFE = ("safetensors", "index", "npz")


@dataclass(frozen=True)
class Dropped:
    """Something of the source that is not in what was written: its path of keys, and why."""

    key: str
    why: str


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    `weights` and `record` are the files, `tensors` and `elements` count what is in the first. `inside` are the
    containers that the state dict was in, `named` what the source asked code for, `kept` plain values beside the
    tensors, by path of keys.
    """

    source: Path
    source_sha256: str
    weights: Path
    weights_sha256: str
    record: Path
    inside: str
    which: str | None
    tensors: int
    elements: int
    kept: dict[str, Any]
    dropped: tuple[Dropped, ...]
    named: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: the fields, paths as file names."""
        names = {key: value.name for key, value in vars(self).items() if isinstance(value, Path)}
        return {**asdict(self), **names}


def convert(source: Path, out: Path, which: str | None = None) -> Converted:
    """Write the state dict of `source` to OUT.safetensors, and beside it OUT.json, which says what was left out.

    Nothing in the source is run or imported: a name that it asks code for becomes a stand-in that only remembers it.
    Written is one state dict, without its containers; `which` chooses as in `WeightsTable`. Plain values beside it
    (numbers, texts) go to the record. Parameters and buffers of a module that was saved whole are found too.
    WeightsError: as for `read_tensors`, an `out` that is there already, or one of another suffix.
    """
    require_file(source)
    weights, record = _outputs(out)
    before, digest = stamp(source), sha256(source)
    thawed = _read(source)
    found = unwrap(thawed.content, source, which)
    tensors, outside, asked = take_branch(found.tensors, (), found.asked, source)
    require_answered(asked, found.inside, found.tensors, source)
    if stamp(source) != before:
        raise WeightsError(f"{source.name} changed while it was read", str(source), "wait until it is written")
    kept, dropped = _sort(thawed.content, found.inside)
    branch = [Dropped(key, f'outside which = "{which}"') for key in outside]
    try:
        _write(weights, tensors)
    except (SafetensorError, TypeError, ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise WeightsError(f"{source.name} cannot be written as safetensors: {why}", where=str(source)) from error
    done = Converted(
        source,
        digest,
        weights,
        sha256(weights),
        record,
        found.inside,
        which,
        len(tensors),
        sum(value.numel() for value in tensors.values()),
        kept,
        (*dropped, *branch),
        thawed.named,
    )
    try:
        write_text(record, json.dumps(done.as_dict(), indent=1) + "\n")
    except BaseException:
        weights.unlink()
        raise
    return done


def _outputs(out: Path) -> tuple[Path, Path]:
    if out.suffix not in ("", SUFFIX):
        raise WeightsError(f"{out.name} is no name of a safetensors file", hint=f"{out.with_suffix(SUFFIX).name}")
    weights, record = out.with_suffix(SUFFIX), out.with_suffix(".json")
    if not out.parent.is_dir():
        raise WeightsError(f"there is no folder {out.parent}", hint="make it, or name another")
    for path in (weights, record):
        if path.exists() or path.is_symlink():
            raise WeightsError(f"{path} is there already", hint="name another, or move it away")
    return weights, record


def _read(source: Path) -> Thawed:
    kind = find_kind(source)
    if kind in SAFE:
        return Thawed(read_content(source, checked=False), ())
    if kind != "pickle":
        require_no_bomb(source)
        require_sound(source)
    return read_inert(source)


def _sort(content: Any, inside: str) -> tuple[dict[str, Any], list[Dropped]]:
    """Return the plain values beside the state dict and what was dropped, on the way to it and around it."""
    kept: dict[str, Any] = {}
    dropped: list[Dropped] = []
    path: list[str] = []
    for name in [*filter(None, inside.split(".")), None]:
        for key, value in content.items() if isinstance(content, dict) else ():
            where = ".".join([*path, str(key)])
            if key == name or (name is None and isinstance(value, Tensor)):
                continue
            if _is_plain(value):
                kept[where] = value
            else:
                dropped.append(Dropped(where, _why(value)))
        if name is not None:
            content = content[name]
            path.append(name)
    return kept, dropped


def _is_plain(value: Any) -> bool:
    """Tell whether a value is one that JSON holds, and short."""
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, str):
        return len(value) <= KEPT
    return value is None or (isinstance(value, int) and abs(value) < 1 << 63)


def _why(value: Any) -> str:
    if isinstance(value, Inert):
        return f"asks for {value.asked}"
    if isinstance(value, type):
        return "asks for a function or a class"
    return "a tensor beside the state dict" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _write(path: Path, tensors: Any) -> None:
    """Write to a temporary file beside it, flush, and rename; tensors that share memory are written each by itself."""
    with write_file(path) as draft:
        save_file({key: value.clone().contiguous() for key, value in tensors.items()}, draft, {"format": "pt"})
