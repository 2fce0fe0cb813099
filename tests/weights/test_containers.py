"""Finding the state dict among what people save with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.weights.containers import unwrap

PATH = Path("x.pth")
STATE = {"a.weight": torch.ones(2, 2), "a.bias": torch.zeros(2)}


@pytest.mark.parametrize("name", ["state_dict", "model", "model_state", "net", "params", "module"])
def test_a_container_is_looked_into(name: str) -> None:
    assert unwrap({"epoch": 3, name: STATE, "optimizer": {"state": {}}}, PATH) == (name, STATE, ())


def test_containers_in_containers_are_looked_into() -> None:
    assert unwrap({"state_dict": {"model": STATE, "iteration": torch.tensor(1)}}, PATH)[0] == "state_dict.model"


def test_a_bare_state_dict_is_itself() -> None:
    assert unwrap(STATE, PATH) == ("", STATE, ())


def test_averaged_weights_alone_are_taken() -> None:
    assert unwrap({"state_dict_ema": STATE}, PATH)[0] == "state_dict_ema"


def test_what_is_no_tensor_is_named() -> None:
    many: dict[str, Any] = {f"{index}": torch.ones(1) for index in range(20)}
    assert unwrap({**many, "version": "1.0"}, PATH)[2] == ("version",)


def _refusal(content: object) -> str:
    with pytest.raises(WeightsError) as caught:
        unwrap(content, PATH)
    return str(caught.value)


def test_averaged_weights_beside_raw_ones_are_refused() -> None:
    assert _refusal({"state_dict": STATE, "state_dict_ema": STATE, "epoch": 9}) == (
        "x.pth holds several sets of weights: state_dict, state_dict_ema\n  where: x.pth\n"
        "  mend:  save the one you mean in a file of its own"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "best": 0.5}, "x.pth holds no state dict that zoo can find, only: epoch, best"),
        ({}, "x.pth holds no state dict that zoo can find, only: nothing"),
        ([torch.ones(1)], "x.pth holds no state dict but a list"),
        (torch.ones(1), "x.pth holds no state dict but a Tensor"),
    ],
)
def test_no_state_dict_is_refused(content: object, message: str) -> None:
    assert _refusal(content) == f"{message}\n  where: x.pth\n  mend:  save model.state_dict(): tensors by name"


def test_a_sparse_tensor_is_refused() -> None:
    sparse: dict[str, Tensor] = {"a": torch.eye(2).to_sparse()}
    assert _refusal(sparse) == (
        "a is not a plain tensor with values (sparse, quantised or meta)\n  where: x.pth\n"
        "  mend:  save dense, unquantised tensors"
    )
