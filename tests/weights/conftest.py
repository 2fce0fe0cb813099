"""What the tests of weights share: a request and a tiny checkpoint."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zoo.registry.contracts import Native, WeightsRequest


@pytest.fixture
def request_() -> WeightsRequest:
    """A request by timm's lite0; cards lie in the repository's `weights/`."""
    native = Native("timm", "tf_efficientnet_lite0", "classifier", lambda classes: nn.Identity(), "")
    cards = Path(__file__).parents[2] / "weights"
    return WeightsRequest(native, (cards,), Path("unused"))


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """The state of a model of one convolution, one norm and a classifier `fc` of three classes."""
    torch.manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 1, 1),
        "bn.weight": torch.randn(4),
        "bn.num_batches_tracked": torch.tensor(7),
        "fc.weight": torch.randn(3, 4),
        "fc.bias": torch.randn(3),
    }
