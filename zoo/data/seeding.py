"""Randomness that is a pure function of a seed and leaves the caller's alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's default CPU generator within the block, and restore its state afterwards.

    `torch.manual_seed` would also queue a seed for every GPU, each time.
    """
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
