"""Files that would have code run: all are refused, and nothing of them is."""

import io
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tests.weights.corpus.case import CANARY, Case, refused
from tests.weights.corpus.models import trained
from tests.weights.hostile import objects, save, streams
from zoo.registry.contracts import WeightsFile

RESNET = "timm/test_resnet"
NAMES = (
    *("posix.system", "builtins.eval", "builtins.exec", "builtins.getattr", "pathlib.PosixPath"),
    *("tests.weights.hostile.Restores", "tests.weights.hostile.FromItems"),
)
STREAMS = ("INST", "OBJ", "STACK_GLOBAL", "memoised", "NEWOBJ", "BUILD", "class", "setattr")
ASKS = r"x\.\w+ asks for code to be run: .*{}.*"


def cases() -> Iterator[Case]:
    for kind in ("zip", "legacy", "plain"):
        for name in NAMES:
            truth = refused(ASKS.format(name.replace(".", r"\.")))
            yield Case(f"{name}, {kind}", "hostile", RESNET, partial(_object, name, kind), truth)
    for name in STREAMS:
        truth = refused(r"x\.pth (asks for code to be run: .+|cannot be read: .+)")
        yield Case(f"{name}, by hand", "hostile", RESNET, partial(_stream, name, False), truth)
        yield Case(f"{name}, by hand in a zip", "hostile", RESNET, partial(_stream, name, True), truth)
    asks = refused(ASKS.format(r"posix\.system"))
    yield Case("under the name of safetensors", "hostile", RESNET, partial(_renamed, "x.safetensors"), asks)
    yield Case("in a scripted module", "hostile", RESNET, _scripted, refused(r"x\.pt .+"))
    arrays = refused(r"x\.npz asks for code to be run: .+ holds Python objects")
    yield Case("an array of objects", "hostile", RESNET, _array, arrays)
    yield Case("a shard", "hostile", RESNET, _shard, refused(r"x-0\.bin asks for code to be run: .*posix\.system.*"))


def _object(name: str, kind: str, folder: Path) -> WeightsFile:
    """Write sound weights with something hostile beside them."""
    hostile = objects(folder / CANARY)[name]
    content = {"epoch": 3, "more": hostile} if kind == "plain" else {"state_dict": trained(RESNET), "more": hostile}
    return WeightsFile(save(content, folder / "x.pth", kind), origin="the corpus")


def _stream(name: str, zipped: bool, folder: Path) -> WeightsFile:
    path, content = folder / "x.pth", streams(folder / CANARY)[name]
    if not zipped:
        path.write_bytes(content)
        return WeightsFile(path, origin="the corpus")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", content)
        archive.writestr("x/version", "3\n")
    return WeightsFile(path, origin="the corpus")


def _renamed(name: str, folder: Path) -> WeightsFile:
    known = _object("posix.system", "zip", folder)
    return WeightsFile(known.path.rename(folder / name), origin="the corpus")


def _scripted(folder: Path) -> WeightsFile:
    """An archive that says it has code, with a pickle of its own."""
    with zipfile.ZipFile(folder / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", streams(folder / CANARY)["STACK_GLOBAL"])
        archive.writestr("x/code/__torch__.py", f"open({str(folder / CANARY)!r}, 'w')")
        archive.writestr("x/constants.pkl", streams(folder / CANARY)["STACK_GLOBAL"])
        archive.writestr("x/version", "3\n")
    return WeightsFile(folder / "x.pt", origin="the corpus")


def _array(folder: Path) -> WeightsFile:
    buffer = io.BytesIO()
    np.save(buffer, np.array([objects(folder / CANARY)["posix.system"]], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("conv1.weight.npy", buffer.getvalue())
    return WeightsFile(folder / "x.npz", origin="the corpus")


def _shard(folder: Path) -> WeightsFile:
    torch.save({"a": torch.ones(1), "more": objects(folder / CANARY)["posix.system"]}, folder / "x-0.bin")
    index = folder / "x.bin.index.json"
    index.write_text('{"weight_map": {"a": "x-0.bin"}}')
    return WeightsFile(index, origin="the corpus")
