"""Files of torch.save: wherever they were saved, whatever they ask for, however they are broken."""

import argparse
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.weights import hostile
from zoo.errors import WeightsError
from zoo.weights import read_tensors

Tensors = dict[str, Tensor]


def _same(left: Any, right: Any) -> bool:
    return list(left) == list(right) and all(torch.equal(left[key], right[key]) for key in left)


def _refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    return str(caught.value)


def _moved(path: Path, location: str) -> None:
    """Rewrite a file's location tags: each is the text "cpu" in the pickle, with its length before it."""
    old, new = (b"X" + len(tag).to_bytes(4, "little") + tag.encode() for tag in ("cpu", location))
    content = path.read_bytes()
    if not zipfile.is_zipfile(path):
        path.write_bytes(content.replace(old, new))
        return
    written = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as moved:
        for entry in archive.infolist():
            moved.writestr(entry.filename, archive.read(entry).replace(old, new))
    path.write_bytes(written.getvalue())


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("location", ["cuda:3", "cuda:0", "mps", "xla:1", "hpu"])
def test_tensors_come_to_the_cpu_from_any_device(kind: str, location: str, tensors: Tensors, tmp_path: Path) -> None:
    path = hostile.save(tensors, tmp_path / "x.pth", kind)
    before = path.read_bytes()
    _moved(path, location)
    assert path.read_bytes() != before
    if location == "cuda:3" and not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="deserialize object on a CUDA device"):
            torch.load(path, weights_only=True)
    read = read_tensors(path)
    assert _same(read, tensors)
    assert {str(tensor.device) for tensor in read.values()} == {"cpu"}


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("eighth", range(1, 8))
def test_a_truncated_file_is_refused(kind: str, eighth: int, tensors: Tensors, tmp_path: Path) -> None:
    path = hostile.save(tensors, tmp_path / "x.pth", kind)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * eighth // 8])
    message = _refusal(path)
    assert message.startswith("x.pth cannot be read: ")
    assert message.endswith(f"\n  where: {path}\n  mend:  the file is incomplete or damaged: download or copy it again")


def test_a_packed_archive_is_read_as_what_was_packed(tensors: Tensors, tmp_path: Path) -> None:
    path = hostile.save({**tensors, "long": torch.zeros(4000)}, tmp_path / "x.pth", "zip")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in archive.infolist():
            packed.writestr(entry.filename, archive.read(entry))
    assert _same(read_tensors(tmp_path / "y.pth"), {**tensors, "long": torch.zeros(4000)})


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_newer_pickles_are_read(protocol: int, zipped: bool, tensors: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(tensors, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert _same(read_tensors(path), tensors)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_every_name_is_given(kind: str, tensors: Tensors, tmp_path: Path) -> None:
    content = {"a": argparse.Namespace(lr=1), "s": tensors, "b": Path("x"), "c": hostile.Reduce(eval, "1")}
    path = hostile.save(content, tmp_path / "x.pth", kind)
    assert _refusal(path) == (
        "x.pth asks for code to be run: argparse.Namespace, builtins.eval, pathlib.PosixPath\n"
        f"  where: {path}\n  mend:  `zoo weights convert x.pth OUT` writes its tensors alone and runs none of it"
    )


class Net(torch.nn.Module):
    """Some modules in modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 1)
        self.more = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
        self.count = 3

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 1, 1) → (B, 2)."""
        return self.more(self.conv(images).flatten(1)) * self.count


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("traced", [True, False])
def test_a_scripted_module_gives_its_tensors(traced: bool, tmp_path: Path) -> None:
    model = Net().eval()
    made = torch.jit.trace(model, torch.ones(1, 1, 1, 1)) if traced else torch.jit.script(model)
    torch.jit.save(made, tmp_path / "x.pt")
    read = read_tensors(tmp_path / "x.pt")
    assert set(read) == set(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in read.items())
