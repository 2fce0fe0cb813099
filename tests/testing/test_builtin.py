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
CASES = [case for part in PARTS for case in cases_of(part)]
SLOW = {"torchvision"}
"""Backbones of a real size."""


def parameter(case):
    slow = case.check.slow or (case.part.kind.name == "backbone" and case.part.name in SLOW)
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


def test_all_but_what_needs_the_internet_is_tried():
    tried = {
        (kind, name) for kind, name in PARTS_BY_NAME if not PARTS_BY_NAME[kind, name].examples.endswith(":elsewhere")
    }
    assert set(PARTS_BY_NAME) - tried == {("weights", "hub"), ("weights", "torchvision")}
