"""What an inert reading becomes."""

from typing import Any

import pytest
import torch

from zoo.weights.formats.inert import Inert, Pending, Stored
from zoo.weights.formats.thaw import thaw

STORED = Stored("torch.FloatStorage", "0", 4)
BYTES = {"0": bytearray(torch.arange(4.0).numpy().tobytes())}


def test_a_tensor_is_a_view_of_its_storage() -> None:
    made = thaw({"a": Pending(STORED, STORED.kind, 1, (2,), (2,)), "epoch": 3}, BYTES)
    assert (made["a"].tolist(), made["epoch"]) == ([1, 3], 3)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (3, (2,), (1,)), (-1, (1,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (1,)), (0, ("a",), (1,))],
)
def test_a_tensor_beyond_its_storage_is_refused(offset: int, size: Any, stride: Any) -> None:
    with pytest.raises(ValueError, match=r"^a tensor (reaches beyond its storage|has no proper shape)$"):
        thaw(Pending(STORED, STORED.kind, offset, size, stride), BYTES)


@pytest.mark.timeout(20)
def test_mappings_that_hold_each_other_end() -> None:
    inner: dict[str, Any] = {"x": 1}
    for _ in range(60):
        inner = {"a": inner, "b": inner}
    inner["self"] = inner
    assert thaw(inner, {})["self"]["a"] is not None


@pytest.mark.timeout(20)
def test_modules_that_hold_each_other_are_refused() -> None:
    module = Inert()
    module.state = {"_parameters": {}, "_buffers": {}, "_modules": {"a": module, "b": module}}
    with pytest.raises(ValueError, match="there is no end to its modules"):
        thaw(module, {})
