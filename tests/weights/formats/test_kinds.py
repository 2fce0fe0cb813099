"""Formats are told by their bytes."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from zoo.errors import WeightsError
from zoo.weights import read_tensors

Tensors = dict[str, Tensor]


def _refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.bin", "x.npz", "x", "x.weights"])
def test_the_name_does_not_decide(name: str, tensors: Tensors, tmp_path: Path) -> None:
    path = tmp_path / name
    save_file(tensors, path)
    assert read_tensors(path)["fc.bias"].equal(tensors["fc.bias"])
    torch.save(tensors, path)
    assert read_tensors(path)["fc.bias"].equal(tensors["fc.bias"])
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    assert read_tensors(path)["fc.bias"].equal(tensors["fc.bias"])
    with path.open("wb") as file:
        np.savez(file, **{key: value.numpy() for key, value in tensors.items()})
    assert read_tensors(path)["fc.bias"].equal(tensors["fc.bias"])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<!DOCTYPE html><p>404", "it is a web page: whoever served it sent an error or asked for a login"),
        (b"<html><p>404", "it is a web page: whoever served it sent an error or asked for a login"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "it is a pointer of git-lfs, not the file: run `git lfs pull`",
        ),
    ],
)
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_what_was_downloaded_instead_is_named(content: bytes, why: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert _refusal(path) == (
        f"{name} cannot be read: {why}\n  where: {path}\n"
        "  mend:  the file is incomplete or damaged: download or copy it again"
    )


def test_another_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")
    assert _refusal(path) == (
        f"x.pth cannot be read: it is a zip archive without a checkpoint\n  where: {path}\n"
        "  mend:  unpack it and name a file in it"
    )


@pytest.mark.parametrize("eighth", range(1, 8))
def test_truncated_safetensors_are_refused(eighth: int, tensors: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * eighth // 8])
    assert _refusal(path).startswith("x.safetensors cannot be read: ")
