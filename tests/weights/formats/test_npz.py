"""Archives of numpy arrays."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.errors import WeightsError
from zoo.weights import read_tensors
from zoo.weights.reading import read_checkpoint


def _refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numbers_become_tensors(save: type, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    arrays = {f"{kind}.w": np.arange(6).reshape(2, 3).astype(kind) for kind in ("f4", "f8", "f2", ">f4", "i8", "u1")}
    save(path, **arrays, fortran=np.asfortranarray(arrays["f4.w"]))
    read = read_tensors(path)
    assert all(torch.equal(value, torch.arange(6).reshape(2, 3).to(value.dtype)) for value in read.values())
    assert list(read) == [*arrays, "fortran"]


def test_what_is_no_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, note=np.array("text"), **{f"w{index}": np.ones(2) for index in range(9)})
    assert read_checkpoint(path).others == ("note",)


def test_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.ones(2), b=np.array([{}], dtype=object))
    assert _refusal(path) == (
        f"x.npz asks for code to be run: b.npy holds Python objects\n  where: {path}\n"
        "  mend:  save arrays of numbers alone: np.savez(path, **arrays)"
    )


def test_an_array_that_lies_of_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16))
    assert _refusal(path).splitlines()[0] == "x.npz cannot be read: a.npy is not as large as it says"


@pytest.mark.parametrize("eighth", range(1, 8))
def test_a_truncated_archive_is_refused(eighth: int, tmp_path: Path) -> None:
    written = io.BytesIO()
    np.savez(written, a=np.ones(200), b=np.ones(10))
    path = tmp_path / "x.npz"
    path.write_bytes(written.getvalue()[: len(written.getvalue()) * eighth // 8])
    assert _refusal(path).splitlines()[0] == "x.npz cannot be read: the zip archive has no end"
