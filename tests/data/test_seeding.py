from contextlib import suppress

import torch

from zoo.data.seeding import seeded


def draw(seed: int) -> float:
    with seeded(seed):
        return torch.rand(()).item()


def test_draws_are_a_function_of_the_seed() -> None:
    assert draw(1) == draw(1) != draw(2)
    assert 0 <= draw(2**63 - 1) < 1


def test_the_callers_state_is_restored_even_after_an_error() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = torch.rand(())
    with suppress(KeyError), seeded(5):
        raise KeyError(torch.rand(10))
    assert torch.equal(torch.stack([first, torch.rand(())]), expected)
