"""What values give away."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.weights.ledger import Flag
from zoo.weights.values import flag, has_only_numbers


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=9))
def test_what_is_no_number_is_found(values: list[float]) -> None:
    tensor = torch.tensor(values)
    assert has_only_numbers(tensor) == bool(torch.isfinite(tensor).all())


def test_every_type_is_looked_at() -> None:
    for kind in (torch.float16, torch.bfloat16, torch.float64, torch.complex64):
        assert has_only_numbers(torch.ones(3, dtype=kind))
        assert not has_only_numbers(torch.tensor([1.0, float("nan")], dtype=kind))
    assert not has_only_numbers(torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn))
    assert has_only_numbers(torch.empty(0))
    assert has_only_numbers(torch.ones(2, dtype=torch.int64))


def test_odd_values_are_flagged() -> None:
    assert flag("conv.weight", torch.zeros(2, 2)) == Flag("conv.weight", "all zeros")
    assert flag("bn.weight", torch.ones(2)) == Flag("bn.weight", "all equal")
    assert flag("pos_embed", torch.zeros(1, 4, 2)) == Flag("pos_embed", "all zeros")
    assert flag("bn.running_var", torch.tensor([1.0, 0.0])) == Flag("bn.running_var", "running_var <= 0")
    assert flag("bn.running_var", torch.tensor([-1.0])) == Flag("bn.running_var", "running_var <= 0")


def test_plain_values_are_not() -> None:
    assert flag("conv.weight", torch.tensor([[0.0, 1.0]])) is None
    assert flag("scale.weight", torch.zeros(1)) is None
    assert flag("conv.bias", torch.zeros(3)) is None
    assert flag("bn.running_var", torch.ones(3)) is None
    assert flag("bn.num_batches_tracked", torch.tensor(0)) is None
