"""Two models in one state dict."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import WeightsError
from zoo.recipe.schema import WeightsTable
from zoo.registry.contracts import WeightsFile
from zoo.weights import Target, load, load_state, read_tensors
from zoo.weights.branches import take_branch

PATH = Path("x.pth")


def _model(value: float) -> dict[str, Tensor]:
    return {"conv.weight": torch.full((2, 2), value), "conv.bias": torch.tensor([value, 0.0])}


def _moco(around: str = "module.") -> dict[str, Tensor]:
    sides = {"encoder_q": _model(1.0), "encoder_k": _model(2.0)}
    both = {f"{around}{side}.{name}": value for side, state in sides.items() for name, value in state.items()}
    return {**both, f"{around}queue": torch.ones(4, 3)}


@pytest.mark.parametrize("around", ["module.", "", "model.", "_orig_mod.model.module."])
@pytest.mark.parametrize(("which", "value"), [("encoder_q", 1.0), ("encoder_k", 2.0)])
def test_a_branch_is_chosen_and_the_rest_is_said_to_be_left(around: str, which: str, value: float) -> None:
    tensors, outside, left = take_branch(_moco(around), (), (which,), PATH)
    assert [float(tensor.flatten()[0]) for tensor in tensors.values()] == [value, value]
    assert len(outside) == 3
    assert outside[f"{around}queue"] == 12
    assert left == ()


def test_two_models_without_a_choice_are_refused() -> None:
    with pytest.raises(WeightsError) as caught:
        take_branch(_moco(), ("conv.weight", "conv.bias"), (), PATH)
    assert str(caught.value) == (
        "x.pth holds several sets of weights: encoder_q, encoder_k\n  where: x.pth\n"
        '  mend:  choose one in [weights]: which = "encoder_q" or "encoder_k"'
    )


def test_a_model_that_has_both_needs_no_choice() -> None:
    state = _moco("")
    assert take_branch(state, list(state), (), PATH) == (state, {}, ())


def test_raw_and_averaged_branches_are_told_apart() -> None:
    state = {f"{side}.{name}": value for side in ("model", "model_ema") for name, value in _model(1.0).items()}
    assert list(take_branch(state, (), ("ema",), PATH)[0]) == ["model_ema.conv.weight", "model_ema.conv.bias"]
    assert list(take_branch(state, (), ("raw",), PATH)[0]) == ["model.conv.weight", "model.conv.bias"]


def test_parts_of_one_model_are_no_two_models() -> None:
    state = dict(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).state_dict())
    assert take_branch(state, (), (), PATH) == (state, {}, ())


def test_the_ledger_says_what_the_choice_left(tmp_path: Path) -> None:
    torch.save({"state_dict": _moco(), "epoch": 3}, tmp_path / "x.pth")
    target = {name: torch.zeros_like(value) for name, value in _model(0.0).items()}
    ledger = load_state(Target(target), WeightsFile(tmp_path / "x.pth", "file"), WeightsTable(which="encoder_q"))
    assert (ledger.coverage, ledger.which) == (1.0, "encoder_q")
    assert ledger.table().splitlines()[2:] == [
        "renamed      2 by wrapper segments; namespace encoder_q.",
        "dropped      3 (module.encoder_k.conv.weight, module.encoder_k.conv.bias, module.queue): "
        'outside which = "encoder_q"',
        "flagged      1 (conv.weight): all equal",
    ]
    assert float(target["conv.bias"][0]) == 1.0


@pytest.mark.parametrize(("inside", "which", "there"), [("model", "ema", "only model"), ("ema", "raw", "only ema")])
def test_a_choice_that_the_file_does_not_have_is_refused(inside: str, which: str, there: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({inside: {"weight": torch.ones(1, 1), "bias": torch.ones(1)}}, path)
    with pytest.raises(WeightsError) as caught:
        load(nn.Linear(1, 1), path, which=which)
    assert str(caught.value) == (
        f'which = "{which}", but x.pth holds {there}\n  where: {path}\n'
        "  mend:  leave `which` out, or name a branch: one of: bias, weight"
    )
    assert len(read_tensors(path, which={"model": "raw", "ema": "ema"}[inside])) == 2
