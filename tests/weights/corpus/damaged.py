"""Files that are cut off, changed on the way, or no checkpoints at all; and every format when it is sound."""

import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from tests.weights.corpus.case import Case, Truth, refused, save, short, whole
from tests.weights.corpus.models import State, holding, trained
from zoo.registry.contracts import WeightsFile

RESNET, VIT, CONVNEXT = "timm/test_resnet", "timm/test_vit", "timm/test_convnext"
INCOMPLETE = r"  mend:  the file is incomplete or damaged: download or copy it again"

Format = Callable[[State, Path], Path]
"""Writes a state dict into a folder."""
Harm = Callable[[bytes], bytes]


def cases() -> Iterator[Case]:
    yield from _sound()
    yield from _truncated()
    yield from _flipped()
    yield from _digests()
    yield from _no_checkpoint()


def _zip(state: State, folder: Path) -> Path:
    return save(state, folder / "x.pth").path


def _legacy(state: State, folder: Path) -> Path:
    torch.save(state, folder / "x.pth", _use_new_zipfile_serialization=False)
    return folder / "x.pth"


def _safetensors(state: State, folder: Path) -> Path:
    save_file(state, folder / "x.safetensors")
    return folder / "x.safetensors"


def _npz(state: State, folder: Path) -> Path:
    np.savez(folder / "x.npz", **{name: value.numpy() for name, value in state.items()})
    return folder / "x.npz"


def _sharded(state: State, folder: Path, suffix: str = "safetensors") -> Path:
    names = list(state)
    shards = {f"x-{number}.{suffix}": names[number::2] for number in range(2)}
    for shard, own in shards.items():
        values = {name: state[name] for name in own}
        save_file(values, folder / shard) if suffix == "safetensors" else torch.save(values, folder / shard)
    places = ", ".join(f'"{name}": "{shard}"' for shard, own in shards.items() for name in own)
    path = folder / f"x.{suffix}.index.json"
    path.write_text(f'{{"metadata": {{}}, "weight_map": {{{places}}}}}')
    return path


def _packed(state: State, folder: Path) -> Path:
    """A torch file whose archive was packed again, as some upload tools do."""
    path = folder / "y.pth"
    with zipfile.ZipFile(_zip(state, folder)) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    return path


def _scripted(state: State, folder: Path) -> Path:
    del state  # of RESNET, which is traced while it holds the same values
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*deprecated", Warning)
        torch.jit.save(torch.jit.trace(holding(RESNET).eval(), torch.zeros(1, 3, 32, 32)), folder / "x.pt")
    return folder / "x.pt"


def _misnamed(state: State, folder: Path) -> Path:
    return _safetensors(state, folder).rename(folder / "x.bin")


def _parameters(state: State, folder: Path) -> Path:
    learnt = {name: nn.Parameter(value, value.is_floating_point()) for name, value in state.items()}
    return save(learnt, folder / "x.pth").path


def _channels_last(state: State, folder: Path) -> Path:
    last = {name: value.to(memory_format=torch.channels_last) for name, value in state.items() if value.dim() == 4}
    return save({**state, **last}, folder / "x.pth").path


def _transposed(state: State, folder: Path) -> Path:
    turned = {name: value.mT.contiguous().mT for name, value in state.items() if value.dim() == 2}
    return save({**state, **turned}, folder / "x.pth").path


def _one_storage(state: State, folder: Path) -> Path:
    """All floats as views of one storage, as flattened optimisers keep them."""
    floats = {name: value for name, value in state.items() if value.dtype == torch.float32}
    flat = torch.cat([value.flatten() for value in floats.values()])
    views = flat.split([value.numel() for value in floats.values()])
    viewed = {name: view.view(value.shape) for (name, value), view in zip(floats.items(), views, strict=True)}
    return save({**state, **viewed}, folder / "x.pth").path


FORMATS: dict[str, Format] = {
    "zip": _zip,
    "older format": _legacy,
    "safetensors": _safetensors,
    "npz": _npz,
    "sharded safetensors": _sharded,
    "sharded torch": partial(_sharded, suffix="bin"),
    "packed zip": _packed,
    "misnamed safetensors": _misnamed,
    "parameters": _parameters,
    "channels last": _channels_last,
    "transposed in memory": _transposed,
    "views of one storage": _one_storage,
}


def _written(form: Format, harm: Harm | None, known: bool, architecture: str, folder: Path) -> WeightsFile:
    """Write a file, harm it, and say the sha256 that it had before when that is `known`."""
    path = form(trained(architecture), folder)
    digest = sha256(path.read_bytes()).hexdigest() if known else None
    if harm is not None:
        path.write_bytes(harm(path.read_bytes()))
    return WeightsFile(path, origin="the corpus", sha256=digest)


def _case(
    kind: str, name: str, architecture: str, form: Format, harm: Harm | None, truth: Truth, known: bool = False
) -> Case:
    return Case(name, kind, architecture, partial(_written, form, harm, known, architecture), truth)


def sound_files(architecture: str, folder: Path) -> dict[str, Path]:
    """Write the trained values in each format of one file, and return where they are."""
    single = {name: form for name, form in FORMATS.items() if "sharded" not in name}
    paths = {}
    for number, (name, form) in enumerate(single.items()):
        (folder / str(number)).mkdir()
        paths[name] = form(trained(architecture), folder / str(number))
    return paths


def _sound() -> Iterator[Case]:
    for name, form in FORMATS.items():
        for architecture in (RESNET, VIT):
            yield _case("format", f"{name}, {short(architecture)}", architecture, form, None, whole)
    yield _case("format", "scripted", RESNET, _scripted, None, whole)


def _keep(share: float, content: bytes) -> bytes:
    return content[: int(share * len(content))]


def _without(count: int, content: bytes) -> bytes:
    return content[:-count]


def _first(count: int, content: bytes) -> bytes:
    return content[:count]


def _truncated() -> Iterator[Case]:
    cuts: dict[str, Harm] = {f"{share:.0%}": partial(_keep, share) for share in (0.1, 0.5, 0.9)}
    cuts |= {f"all but {count} bytes": partial(_without, count) for count in (1, 22, 200)}
    cuts |= {f"{count} bytes": partial(_first, count) for count in (1, 7, 40)}
    forms = {"zip": _zip, "older format": _legacy, "safetensors": _safetensors, "npz": _npz}
    for number, (name, form) in enumerate(forms.items()):
        architecture = (RESNET, VIT, CONVNEXT)[number % 3]
        truth = refused(r"x\.\w+ cannot be read: .+", INCOMPLETE)
        for cut, harm in cuts.items():
            yield _case("truncated", f"{name}, {cut}", architecture, form, harm, truth)
    lines = refused(r"x\.safetensors\.index\.json names 2 shards, 1 of them not there: x-1\.safetensors")
    yield Case("a shard is missing", "truncated", VIT, _shard_missing, lines)
    lines = refused(r"x-1\.safetensors cannot be read: .+", INCOMPLETE)
    yield Case("a shard is cut off", "truncated", VIT, _shard_cut, lines)


def _shard_missing(folder: Path) -> WeightsFile:
    path = _sharded(trained(VIT), folder)
    (folder / "x-1.safetensors").unlink()
    return WeightsFile(path, origin="the corpus")


def _shard_cut(folder: Path) -> WeightsFile:
    path = _sharded(trained(VIT), folder)
    shard = folder / "x-1.safetensors"
    shard.write_bytes(shard.read_bytes()[:-50])
    return WeightsFile(path, origin="the corpus")


def flip(content: bytes, place: int, bit: int = 0) -> bytes:
    """Return the content with one bit turned."""
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def _at(found: Callable[[bytes], int], content: bytes) -> bytes:
    return flip(content, found(content))


def _values(content: bytes) -> int:
    """Return where the numbers of the largest tensor are, which every format keeps as they are."""
    largest = max(trained(RESNET).values(), key=torch.Tensor.numel)
    return content.index(largest.numpy().tobytes()) + 5


def _after(mark: bytes, offset: int, content: bytes) -> int:
    return content.index(mark) + offset


def _last(mark: bytes, offset: int, content: bytes) -> int:
    return content.rindex(mark) + offset


def _flipped() -> Iterator[Case]:
    other = refused(r"x\.\w+ has sha256 [0-9a-f]{64}, not [0-9a-f]{64}")
    checksum = refused(r"x\.\w+ is damaged: .+")
    broken = refused(r"x\.\w+ cannot be read: .+", INCOMPLETE)
    for name, form in (("zip", _zip), ("older format", _legacy), ("safetensors", _safetensors), ("npz", _npz)):
        yield _flip(f"{name}, a number, sha256 given", form, _values, other, True)
    yield _flip("zip, a number", _zip, _values, checksum)
    yield _flip("npz, a number", _npz, _values, checksum)
    yield _flip("zip, the pickle", _zip, partial(_after, b"layer1.0.conv1.weight", 3), checksum)
    yield _flip("zip, a checksum", _zip, partial(_last, b"PK\x01\x02", 16), checksum)
    yield _flip("zip, the directory", _zip, partial(_last, b"PK\x01\x02", 0), broken)
    yield _flip("zip, the end", _zip, partial(_last, b"PK\x05\x06", 0), broken)
    yield _flip("zip, the start", _zip, lambda _: 0, broken)
    yield _flip("safetensors, the header's size", _safetensors, lambda _: 1, broken)
    yield _flip("safetensors, the header's brace", _safetensors, lambda _: 8, broken)
    yield _flip("safetensors, an offset", _safetensors, partial(_after, b'"data_offsets":[', 17), broken)
    yield _flip("safetensors, a shape", _safetensors, partial(_after, b'"shape":[', 9), broken)
    names = refused(r"not in the file: .+ of the model", r"not in the model: .+ of the file")
    yield _flip("safetensors, a name", _safetensors, partial(_after, b"layer1.0.conv1.weight", 3), names)
    yield _flip("older format, a name", _legacy, partial(_after, b"layer1.0.conv1.weight", 3), names)


def _flip(name: str, form: Format, place: Callable[[bytes], int], truth: Truth, known: bool = False) -> Case:
    return _case("flipped bit", name, RESNET, form, partial(_at, place), truth, known)


def _digests() -> Iterator[Case]:
    for name, form in (("zip", _zip), ("safetensors", _safetensors), ("older format", _legacy)):
        yield _case("sha256", f"{name}, right", VIT, form, None, whole, True)
        wrong = refused(rf"x\.\w+ has sha256 [0-9a-f]{{64}}, not {'0' * 64}")
        yield Case(f"{name}, wrong", "sha256", VIT, partial(_wrong_digest, form), wrong, by_option=True)


def _wrong_digest(form: Format, folder: Path) -> WeightsFile:
    return WeightsFile(form(trained(VIT), folder), origin="the corpus", sha256="0" * 64)


def _raw(content: bytes, name: str, folder: Path) -> WeightsFile:
    (folder / name).write_bytes(content)
    return WeightsFile(folder / name, origin="the corpus")


def _no_checkpoint() -> Iterator[Case]:
    page, pointer = (
        b"<!DOCTYPE html><html>Sign in</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    )
    contents = {
        "empty": (b"", r"x\.pth is empty \(0 bytes\)"),
        "a web page": (page, r"x\.pth cannot be read: it is a web page: .+"),
        "a git-lfs pointer": (pointer, r"x\.pth cannot be read: it is a pointer of git-lfs, .+"),
        "noise": (bytes(range(7, 256)) * 40, r"x\.pth cannot be read: .+"),
        "zeros": (bytes(10_000), r"x\.pth cannot be read: .+"),
        "text": (b"weights = good\n" * 99, r"x\.pth cannot be read: .+"),
    }
    for name, (content, line) in contents.items():
        yield Case(name, "no checkpoint", RESNET, partial(_raw, content, "x.pth"), refused(line))
    empty = refused(r"x\.safetensors is empty \(0 bytes\)")
    yield Case("empty safetensors", "no checkpoint", RESNET, partial(_raw, b"", "x.safetensors"), empty)
    yield Case("nothing there", "no checkpoint", RESNET, _nowhere, refused(r"there is no file .+/x\.pth"))
    yield Case("a folder", "no checkpoint", RESNET, _folder, refused(r".+ is a folder, not a checkpoint"))
    yield Case("no tensors", "no checkpoint", RESNET, _no_tensors, refused(r"x\.pth holds no state dict .+"))


def _nowhere(folder: Path) -> WeightsFile:
    return WeightsFile(folder / "x.pth", origin="the corpus")


def _folder(folder: Path) -> WeightsFile:
    return WeightsFile(folder, origin="the corpus")


def _no_tensors(folder: Path) -> WeightsFile:
    return save({"epoch": 3, "arch": "resnet"}, folder / "x.pth")
