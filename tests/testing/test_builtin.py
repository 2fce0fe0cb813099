"""Zoo's own parts hold to what is asked of everyone's."""

import pytest
import torch
from safetensors.torch import save

from tests.hub import Hub, hub
from zoo.registry import load_registry
from zoo.testing import NotTriedError, check_weights
from zoo.testing.cases import cases_of

__all__ = ["hub"]  # the fixture

PARTS = load_registry(candidates=()).plugins[0].parts
PARTS_BY_NAME = {(part.kind.name, part.name): part for part in PARTS}
ELSEWHERE = {("weights", "hub"), ("weights", "torchvision")}
"""Servers of others: the first is tried against one on this machine below, the second in tests/weights."""
CASES = [case for name, part in PARTS_BY_NAME.items() if name not in ELSEWHERE for case in cases_of(part)]
SLOW = {("backbone", "torchvision"), ("export", "pt2"), ("export", "torchscript")}
"""Networks of a real size, and graphs."""


def parameter(case):
    slow = case.check.slow or (case.part.kind.name, case.part.name) in SLOW
    return pytest.param(case, id=str(case).replace(" ", "-"), marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("case", [parameter(case) for case in CASES])
@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:FutureWarning")
def test_it_conforms(case):
    try:
        case.run()
    except NotTriedError as reason:
        pytest.skip(str(reason))


def test_the_hub_conforms(hub: Hub):
    hub.files["zoo/tiny/model.safetensors"] = save({"fc.weight": torch.ones(3, 2)})
    check_weights(PARTS_BY_NAME["weights", "hub"], {"repo": "zoo/tiny"})


def test_nothing_else_is_left_out():
    assert {name for name, part in PARTS_BY_NAME.items() if part.examples.endswith(":elsewhere")} == ELSEWHERE
