"""What values give away."""

import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.weights.ledger import Flag
from zoo.weights.values import extremes, flag, flag_fresh


def _has_only_numbers(tensor: Tensor) -> bool:
    found = extremes(tensor)
    return found is None or found.are_numbers()


def _flag(name: str, value: Tensor) -> Flag | None:
    return flag(name, value, extremes(value))


def _fresh(state: dict[str, Tensor]) -> list[Flag]:
    return flag_fresh(state, {name: extremes(value) for name, value in state.items()})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=9))
def test_what_is_no_number_is_found(values: list[float]) -> None:
    tensor = torch.tensor(values)
    assert _has_only_numbers(tensor) == bool(torch.isfinite(tensor).all())


def test_every_type_is_looked_at() -> None:
    for kind in (torch.float16, torch.bfloat16, torch.float64, torch.complex64):
        assert _has_only_numbers(torch.ones(3, dtype=kind))
        assert not _has_only_numbers(torch.tensor([1.0, float("nan")], dtype=kind))
    assert not _has_only_numbers(torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn))
    assert _has_only_numbers(torch.empty(0))
    assert _has_only_numbers(torch.ones(2, dtype=torch.int64))


def test_odd_values_are_flagged() -> None:
    assert _flag("conv.weight", torch.zeros(2, 2)) == Flag("conv.weight", "all zeros")
    assert _flag("bn.weight", torch.ones(2)) == Flag("bn.weight", "all equal")
    assert _flag("pos_embed", torch.zeros(1, 4, 2)) == Flag("pos_embed", "all zeros")
    assert _flag("bn.running_var", torch.tensor([1.0, 0.0])) == Flag("bn.running_var", "running_var <= 0")
    assert _flag("bn.running_var", torch.tensor([-1.0])) == Flag("bn.running_var", "running_var <= 0")


def test_plain_values_are_not() -> None:
    assert _flag("conv.weight", torch.tensor([[0.0, 1.0]])) is None
    assert _flag("scale.weight", torch.zeros(1)) is None
    assert _flag("conv.bias", torch.zeros(3)) is None
    assert _flag("bn.running_var", torch.ones(3)) is None
    assert _flag("bn.num_batches_tracked", torch.tensor(0)) is None


def test_a_fresh_initialisation_is_flagged_until_it_is_trained() -> None:
    model = timm.create_model("test_resnet", num_classes=0).train()
    assert _fresh(model.state_dict()) == [
        Flag("the backbone", "like a fresh initialisation: each of its 60 vectors is all equal")
    ]
    with torch.no_grad():
        model(torch.randn(2, 3, 32, 32))
    assert _fresh(model.state_dict()) == []


def test_a_model_of_few_vectors_cannot_be_told() -> None:
    assert _fresh({f"{index}.bias": torch.zeros(2) for index in range(3)}) == []
