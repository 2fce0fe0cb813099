import inspect
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from zoo.data.checks import check_classes
from zoo.data.torchvision import KNOWN, build
from zoo.errors import DataError
from zoo.registry.builtin.data import TorchvisionDataOptions


def write_mnist(root: Path, name: str = "FashionMNIST") -> Path:
    """Ten tiny images in MNIST's own format, where torchvision looks for them."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    images = np.arange(10 * 4, dtype=np.uint8).reshape(10, 2, 2)
    for prefix, count in (("train", 10), ("t10k", 4)):
        header = struct.pack(">IIII", 0x803, count, 2, 2)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images[:count].tobytes())
        labels = np.arange(count, dtype=np.uint8)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())
    return root


def write_eurosat(root: Path) -> Path:
    for name in ("Forest", "River"):
        folder = root / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for number in range(5):
            Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(folder / f"{name}_{number}.png")
    return root


def refusal(**options: Any) -> str:
    with pytest.raises(DataError) as refused:
        build(TorchvisionDataOptions(**options), 0)
    return str(refused.value)


@pytest.mark.parametrize("name", KNOWN)
def test_torchvision_has_the_set_and_takes_the_arguments(name: str) -> None:
    parameters = inspect.signature(getattr(torchvision.datasets, name)).parameters
    wanted = {*KNOWN[name].train, *(KNOWN[name].val or {})}
    assert wanted <= set(parameters) or "kwargs" in parameters


def test_a_set_with_splits(tmp_path: Path) -> None:
    source = build(TorchvisionDataOptions(name="FashionMNIST", root=write_mnist(tmp_path)), 0)
    check_classes(source)
    assert (len(source.train), len(source.val)) == (10, 4)
    assert source.classes[:2] == ("T-shirt/top", "Trouser")
    assert np.asarray(source.train.image(1)).tolist() == [[4, 5], [6, 7]]
    assert (source.train.target(3), source.val.identity(2)) == (3, "FashionMNIST/val/2")


def test_a_set_without_splits_is_split_and_kept_as_stored(tmp_path: Path) -> None:
    source = build(TorchvisionDataOptions(name="EuroSAT", root=write_eurosat(tmp_path)), 0)
    check_classes(source)
    assert (len(source.train), len(source.val)) == (8, 2)
    assert source.classes == ("Forest", "River")
    assert source.train.image(0).mode == "RGBA"
    assert source.train.identity(0).startswith("EuroSAT/")


def test_arguments_choose_the_splits(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    source = build(TorchvisionDataOptions(name="FashionMNIST", root=tmp_path, train={"train": False}, val={}), 0)
    assert (len(source.train), len(source.val)) == (4, 10)


def test_a_bad_file_raises_as_a_split_must(tmp_path: Path) -> None:
    write_eurosat(tmp_path)
    (tmp_path / "eurosat/2750/Forest/Forest_0.png").write_bytes(b"")
    source = build(TorchvisionDataOptions(name="EuroSAT", root=tmp_path, val_fraction=0.01), 0)
    bad = 0
    for split in (source.train, source.val):
        for index in range(len(split)):
            try:
                split.image(index)
            except (OSError, ValueError):
                bad += 1
    assert bad == 1


def test_a_name_misspelt(tmp_path: Path) -> None:
    assert refusal(name="Flower102", root=tmp_path) == (
        "torchvision has no classification data set 'Flower102' that zoo knows\n  where: data.name\n"
        "  mend:  did you mean 'Flowers102'?"
    )


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(name="FashionMNIST", root=tmp_path) == (
        "torchvision's FashionMNIST cannot be opened: Dataset not found. You can use download=True to download it\n"
        f"  where: {tmp_path}\n  mend:  set data.download = true, or data.root to where it lies"
    )


@pytest.mark.parametrize("name", KNOWN)
def test_no_set_downloads_unasked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert refusal(name=name, root=tmp_path).startswith(f"torchvision's {name} cannot be opened: ")


def test_arguments_that_the_set_does_not_take(tmp_path: Path) -> None:
    text = refusal(name="DTD", root=tmp_path, train={"split": "trian"})
    assert text.endswith(
        "mend:  see the class in torchvision's documentation for what data.train and data.val may hold"
    )
