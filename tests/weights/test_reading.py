"""Reading checkpoints: every format, and every way a file can be wrong."""

import argparse
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from zoo.errors import WeightsError
from zoo.weights.reading import read_checkpoint, read_tensors

DAMAGED = "\n  mend:  the file is incomplete or damaged: download or copy it again"


def _same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return list(left) == list(right) and all(torch.equal(left[key], right[key]) for key in left)


def _refusal(path: Path, sha: str | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        read_tensors(path, sha)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".tar"])
@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch_are_read(suffix: str, zipped: bool, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    assert _same(dict(read_tensors(path, sha256(path.read_bytes()).hexdigest())), tensors)


def test_safetensors_is_read(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    read = read_checkpoint(path)
    assert _same({key: read.tensors[key] for key in tensors}, tensors)
    assert read.sha256 == sha256(path.read_bytes()).hexdigest()


def test_a_missing_file_names_its_neighbours(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(tensors, tmp_path / "resnet18.pth")
    path = tmp_path / "resnet81.pth"
    assert _refusal(path) == f"there is no file {path}\n  mend:  did you mean 'resnet18.pth'?"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "x.pth"
    assert _refusal(path) == f"there is no file {path}\n  mend:  there is no folder {path.parent} either"


def test_a_folder_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    assert _refusal(tmp_path) == (
        f"{tmp_path} is a folder, not a checkpoint\n  mend:  name a file; there is no checkpoint in it"
    )
    torch.save(tensors, tmp_path / "x.pth")
    assert _refusal(tmp_path).endswith("name a file in it; one of: x.pth")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.touch()
    assert _refusal(path) == f"x.pth is empty (0 bytes)\n  where: {path}{DAMAGED}"


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"x")
    assert _refusal(path) == (
        f"x.onnx is no kind of checkpoint that zoo reads\n  where: {path}\n"
        "  mend:  one of: .safetensors, .pth, .pt, .bin, .tar, .ckpt, .npz, .index.json"
    )


def test_a_truncated_zip_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[:-100])
    assert _refusal(path) == f"x.pth cannot be read: the zip archive has no end\n  where: {path}{DAMAGED}"


@pytest.mark.parametrize("keep", [1, 40, 300, -1])
def test_a_truncated_older_file_is_refused(keep: int, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:keep])
    message = _refusal(path)
    assert message.startswith("x.pth cannot be read: ")
    assert message.endswith(f"\n  where: {path}{DAMAGED}")


def test_truncated_safetensors_are_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:-4])
    assert _refusal(path).startswith("x.safetensors cannot be read: ")


def test_a_flipped_bit_is_found_by_the_archives_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(1000).numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["a"].sum() != 1000
    assert _refusal(path) == (
        f"x.pth is damaged: the checksum of 'x/data/0' in it is wrong\n  where: {path}\n"
        "  mend:  download it again; if it was saved without checksums, give its sha256"
    )


def test_garbage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"<!DOCTYPE html>" * 30)
    assert _refusal(path).startswith("x.pth cannot be read: ")


def test_another_sha256_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(tensors, path)
    digest = sha256(path.read_bytes()).hexdigest()
    assert _refusal(path, "0" * 64) == (
        f"x.pth has sha256 {digest}, not {'0' * 64}\n  where: {path}\n"
        "  mend:  download it again, or correct the sha256 if the file is the one you mean"
    )


class _Custom:
    """Something only code can make."""


def test_code_is_never_run_and_all_of_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}, "args": argparse.Namespace(lr=1), "more": _Custom()}, path)
    assert _refusal(path) == (
        f"x.pth asks for code to be run: argparse.Namespace, {_Custom.__module__}._Custom\n  where: {path}\n"
        "  mend:  `zoo weights convert x.pth OUT` writes its tensors alone and runs none of it"
    )


def test_code_in_an_older_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": argparse.Namespace(lr=1)}, path, _use_new_zipfile_serialization=False)
    assert _refusal(path).splitlines()[0] == "x.pth asks for code to be run: argparse.Namespace"


def test_a_file_that_changes_after_it_was_hashed_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(tensors, path)
    read = read_checkpoint(path)
    torch.save({**tensors, "more": torch.ones(9)}, path)
    with pytest.raises(WeightsError) as caught:
        read.require_unchanged()
    assert str(caught.value) == (f"x.pth changed while it was read\n  where: {path}\n  mend:  wait until it is written")
