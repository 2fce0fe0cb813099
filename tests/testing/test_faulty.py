"""Mutation test of the conformance kit: parts with one fault each, and the check that finds it."""

import pytest

from tests.testing.faulty import backbones, data, declared, heads, others
from zoo.testing import ConformanceError, NotTriedError
from zoo.testing.cases import cases_of

PARTS = {
    "backbone": (backbones.PART, backbones.FAULTS),
    "head": (heads.PART, heads.FAULTS),
    "data": (data.PART, data.FAULTS),
    **others.PARTS,
}
MUTANTS = [(kind, fault, check) for kind, (_, faults) in PARTS.items() for fault, check in faults.items()]
MISSED = [("callback", "a daemon thread"), ("data", "names from the working folder")]
"""What the kit does not see: docs/plugins.md says so."""
SLOW = [("data", fault, check) for fault, check in data.SLOW_FAULTS.items()]
SLOW += [("backbone", fault, check) for fault, check in backbones.SLOW_FAULTS.items()]


def named(mutants):
    return [f"{kind}-{fault}" for kind, fault, _ in mutants]


def failures(part, fault="", only=None, slow=False):
    """Return {check: what it says} of those that a part fails, out of all or `only` one."""
    found = {}
    for case in cases_of(part, part.options.model_validate({"fault": fault} if fault else {}), slow=slow):
        if only not in (None, case.check.name):
            continue
        try:
            case.run()
        except NotTriedError:
            continue
        except ConformanceError as error:
            found[case.check.name] = str(error)
    return found


@pytest.fixture(autouse=True)
def threads_ended():
    """Those that faulty callbacks leave."""
    yield
    others.STOP.set()
    others.STOP.clear()


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_without_a_fault_holds_to_everything(kind):
    assert failures(PARTS[kind][0]) == {}


@pytest.mark.parametrize(("kind", "fault", "check"), MUTANTS, ids=named(MUTANTS))
def test_a_fault_is_found(kind, fault, check):
    assert list(failures(PARTS[kind][0], fault, only=check)) == [check]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "fault", "check"), SLOW, ids=named(SLOW))
def test_a_fault_that_one_process_does_not_show_is_found(kind, fault, check):
    part = PARTS[kind][0]
    assert failures(part, fault) == {}
    assert list(failures(part, fault, only=check, slow=True)) == [check]


@pytest.mark.parametrize("fault", declared.FAULTY)
def test_a_wrong_declaration_is_found(fault):
    part, check = declared.FAULTY[fault]
    assert list(failures(part, only=check)) == [check]


def test_a_failure_says_what_is_expected_what_came_and_why():
    (said,) = failures(backbones.PART, "a stage too few", only="stages").values()
    assert said == (
        "stages\n"
        "  expected: body.weight in one stage\n"
        "  came:     in none of ('stem', 'norm')\n"
        "  because:  a parameter in no stage, or in two, is frozen by no rule, or by contradicting ones"
    )


@pytest.mark.parametrize(("kind", "fault"), MISSED)
def test_what_is_not_seen(kind, fault):
    assert failures(PARTS[kind][0], fault) == {}


def test_there_are_faults_enough():
    assert len(MUTANTS) + len(SLOW) + len(declared.FAULTY) >= 40
