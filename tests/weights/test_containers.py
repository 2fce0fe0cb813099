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
    assert unwrap({"epoch": 3, name: STATE, "optimizer": {"state": {}}}, PATH) == (name, STATE, (), ())


def test_containers_in_containers_are_looked_into() -> None:
    assert unwrap({"state_dict": {"model": STATE, "iteration": torch.tensor(1)}}, PATH)[0] == "state_dict.model"


def test_a_bare_state_dict_is_itself() -> None:
    assert unwrap(STATE, PATH) == ("", STATE, (), ())


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
        '  mend:  choose one in [weights]: which = "state_dict" or "state_dict_ema"'
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


OTHER = {"a.weight": torch.full((2, 2), 3.0), "a.bias": torch.ones(2)}
MOMENTS: dict[str, Any] = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    ("content", "which", "inside"),
    [
        ({"epoch": 1, "arch": "a", "state_dict": STATE, "state_dict_ema": OTHER, "optimizer": MOMENTS}, "ema", "."),
        ({"epoch": 1, "arch": "a", "state_dict": OTHER, "state_dict_ema": STATE, "optimizer": MOMENTS}, "raw", "."),
        ({"student": STATE, "teacher": OTHER, "dino_loss": {"center": torch.ones(1, 4)}}, "teacher", "teacher"),
        ({"state_dict": {"model": STATE, "model_ema": OTHER}}, "ema", "state_dict.model_ema"),
        ({"student": {"model": STATE}, "teacher": {"model": STATE, "ema": OTHER}}, "teacher.ema", "teacher.ema"),
        ({"state_dict": STATE, "swa": OTHER}, "swa", "swa"),
        ({"generator": STATE, "discriminator": OTHER}, "discriminator", "discriminator"),
    ],
)
def test_which_chooses(content: dict[str, Any], which: str, inside: str) -> None:
    found = unwrap(content, PATH, which)
    assert inside in (".", found.inside)
    assert torch.equal(found.tensors["a.bias"], OTHER["a.bias"])
    assert found.asked == ()
    with pytest.raises(WeightsError, match="holds several sets of weights: "):
        unwrap(content, PATH)


@pytest.mark.parametrize(
    ("content", "inside"),
    [
        ({"meta": {"epoch": 3}, "message_hub": {"log": {}}, "state_dict": STATE, "optimizer": MOMENTS}, "state_dict"),
        ({"model": STATE, "__author__": "a", "matching_heuristics": True}, "model"),
        ({"state_dict": STATE, "hyper_parameters": {"lr": 0.1}, "callbacks": {}, "optimizer_states": [MOMENTS]}, "."),
        ({"net": STATE, "params": {"lr": 0.1}}, "net"),
        ({"weights_of_mine": STATE, "optimizer": {"step": torch.ones(1)}}, "weights_of_mine"),
    ],
)
def test_layouts_of_other_projects_need_no_choice(content: dict[str, Any], inside: str) -> None:
    assert unwrap(content, PATH).inside in ("state_dict", inside)


def test_a_choice_that_is_not_there_is_refused() -> None:
    with pytest.raises(WeightsError) as caught:
        unwrap({"student": STATE, "teacher": STATE}, PATH, "ema")
    assert str(caught.value) == (
        'x.pth holds several sets of weights: student, teacher, and which = "ema" is none or several of them\n'
        '  where: x.pth\n  mend:  choose one in [weights]: which = "student" or "teacher"'
    )


def test_what_is_asked_and_not_chosen_is_handed_on() -> None:
    assert unwrap({"state_dict": STATE}, PATH, "state_dict.encoder_q").asked == ("encoder_q",)


def test_a_tensor_that_repeats_itself_endlessly_is_refused() -> None:
    assert _refusal({"a": torch.ones(1).expand(1 << 30)}) == (
        "a has 4,294,967,296 bytes of which the file holds 4\n  where: x.pth\n"
        "  mend:  no weights repeat themselves so often: do not trust where the file came from"
    )
