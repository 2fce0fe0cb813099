import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from zoo.data.checks import check_classes
from zoo.data.idx import build
from zoo.errors import DataError
from zoo.registry.builtin.data import IdxOptions

FASHION = Path("/usr/share/datasets/fashion-mnist")


def idx(values: npt.NDArray[np.uint8]) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write(root: Path, **files: bytes) -> Path:
    images = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
    whole = {
        "train-images-idx3-ubyte": idx(images),
        "train-labels-idx1-ubyte": idx(np.array([0, 1, 2, 0, 1], np.uint8)),
        "t10k-images-idx3-ubyte.gz": gzip.compress(idx(images[:2])),
        "t10k-labels-idx1-ubyte": idx(np.array([2, 0], np.uint8)),
    }
    for name, data in (whole | {name.replace("_", "-"): data for name, data in files.items()}).items():
        (root / name).write_bytes(data)
    return root


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(DataError) as refused:
        build(IdxOptions(root=root, **options), 0)
    return str(refused.value)


def test_plain_and_gzipped_files(tmp_path: Path) -> None:
    source = build(IdxOptions(root=write(tmp_path)), 0)
    check_classes(source)
    assert (len(source.train), len(source.val)) == (5, 2)
    assert source.classes == ("0", "1", "2")
    assert np.asarray(source.train.image(1)).tolist() == [[12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 22, 23]]
    assert [source.val.target(0), source.val.identity(1)] == [2, "idx/val/1"]


def test_class_names(tmp_path: Path) -> None:
    write(tmp_path)
    assert build(IdxOptions(root=tmp_path, classes=["a", "b", "c"]), 0).classes == ("a", "b", "c")
    assert refusal(tmp_path, classes=["a", "b"]) == (
        f"label 2 is no class: there are 2\n  where: {tmp_path}/train-labels-idx1-ubyte"
    )


def test_a_missing_file(tmp_path: Path) -> None:
    write(tmp_path)
    assert refusal(tmp_path, val_labels="labels") == (
        f"no such file, nor with .gz\n  where: {tmp_path}/labels\n  mend:  set data.root and the four file names"
    )


def test_another_format(tmp_path: Path) -> None:
    write(tmp_path, train_images_idx3_ubyte=b"\x89PNG")
    assert refusal(tmp_path) == (
        "not an IDX file of unsigned bytes in 3 dimensions: it starts with '89 50 4e 47'\n"
        f"  where: {tmp_path}/train-images-idx3-ubyte\n  mend:  '00 00 08 03' is expected"
    )


@pytest.mark.parametrize("cut", [4, 10])
def test_a_truncated_header(tmp_path: Path, cut: int) -> None:
    write(tmp_path, train_images_idx3_ubyte=idx(np.zeros((1, 2, 2), np.uint8))[:cut])
    assert refusal(tmp_path) == f"truncated: {cut} bytes\n  where: {tmp_path}/train-images-idx3-ubyte"


@pytest.mark.parametrize("length", [-1, 1])
def test_values_too_few_or_too_many(tmp_path: Path, length: int) -> None:
    whole = idx(np.zeros((2, 2, 2), np.uint8))
    write(tmp_path, train_images_idx3_ubyte=whole[:-1] if length < 0 else whole + b"\0")
    assert refusal(tmp_path) == (
        f"{8 + length} bytes of values where (2, 2, 2) needs 8\n  where: {tmp_path}/train-images-idx3-ubyte"
    )


def test_counts_that_differ(tmp_path: Path) -> None:
    write(tmp_path, train_labels_idx1_ubyte=idx(np.zeros(4, np.uint8)))
    assert refusal(tmp_path) == (
        f"5 images but 4 labels\n  where: {tmp_path}/train-images-idx3-ubyte, {tmp_path}/train-labels-idx1-ubyte"
    )


def test_a_label_to_validate_on_that_is_none_to_train_on(tmp_path: Path) -> None:
    write(tmp_path, t10k_labels_idx1_ubyte=idx(np.array([0, 9], np.uint8)))
    assert refusal(tmp_path) == f"label 9 is no class: there are 3\n  where: {tmp_path}/t10k-labels-idx1-ubyte"


def test_a_cut_gzip_file(tmp_path: Path) -> None:
    write(tmp_path, **{"t10k_images_idx3_ubyte.gz": gzip.compress(idx(np.zeros((9, 9, 9), np.uint8)))[:30]})
    assert refusal(tmp_path) == (
        "the file cannot be read: Compressed file ended before the end-of-stream marker was reached\n"
        f"  where: {tmp_path}/t10k-images-idx3-ubyte.gz\n  mend:  download it again"
    )


@pytest.mark.skipif(not FASHION.is_dir(), reason=f"Fashion-MNIST is not in {FASHION}")
def test_fashion_mnist() -> None:
    source = build(IdxOptions(root=FASHION), 0)
    check_classes(source)
    assert (len(source.train), len(source.val), len(source.classes)) == (60_000, 10_000, 10)
    assert source.train.image(0).size == (28, 28)
    assert [source.train.target(index) for index in range(5)] == [9, 0, 0, 3, 0]
