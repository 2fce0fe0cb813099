"""Zoo's own parts hold to what is asked of everyone's."""

import pytest

from zoo.registry import load_registry
from zoo.testing import NotTriedError
from zoo.testing.cases import cases_of

PARTS = load_registry(candidates=()).plugins[0].parts
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
