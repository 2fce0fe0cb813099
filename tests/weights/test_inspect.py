"""Two checkpoints compared, tensor by tensor."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from zoo.weights.inspect import Drift, TensorDrift, diff


@pytest.fixture
def saved(tensors: dict[str, Tensor], tmp_path: Path) -> Path:
    """The tiny checkpoint as a file."""
    torch.save(tensors, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_every_tensor_is_compared(saved: Path, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    other = {**tensors, "fc.weight": tensors["fc.weight"] * 1.5, "fc.bias": torch.zeros(5)}
    torch.save(other, tmp_path / "b.pth")
    found = diff(saved, tmp_path / "b.pth")
    assert found.tensors == (
        TensorDrift("conv.weight", True, 0.0),
        TensorDrift("bn.weight", True, 0.0),
        TensorDrift("bn.num_batches_tracked", True, 0.0),
        TensorDrift("fc.weight", False, pytest.approx(0.5)),
    )
    assert found.stages[-1] == Drift("fc", 1, 0, pytest.approx(0.5))
    assert found.misshapen == ("fc.bias",)
    assert not found.is_identical()


def test_what_was_zero_is_wholly_apart(saved: Path, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**tensors, "bn.weight": torch.zeros(4)}, tmp_path / "b.pth")
    (moved,) = [one for one in diff(tmp_path / "b.pth", saved).tensors if not one.identical]
    assert moved == TensorDrift("bn.weight", False, 1.0)


def test_a_copy_is_identical_whatever_it_holds(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    odd = {**tensors, "fc.bias": torch.tensor([float("nan"), float("inf"), -0.0])}
    torch.save(odd, tmp_path / "a.pth")
    torch.save({f"module.{name}": tensor for name, tensor in odd.items()}, tmp_path / "b.pth")
    found = diff(tmp_path / "a.pth", tmp_path / "b.pth")
    assert found.is_identical()
    assert {one.relative for one in (*found.tensors, *found.stages)} == {0.0}


def test_an_infinity_more_is_no_copy(saved: Path, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**tensors, "fc.bias": torch.tensor([float("inf"), 0, 0])}, tmp_path / "b.pth")
    (moved,) = [one for one in diff(saved, tmp_path / "b.pth").tensors if not one.identical]
    assert (moved.name, moved.relative) == ("fc.bias", float("inf"))
