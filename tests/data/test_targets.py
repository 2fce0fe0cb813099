"""Named targets: groups of the data's classes."""

import pytest

from zoo.data.targets import named_targets
from zoo.errors import DataError

CLASSES = ("0", "1", "2", "3")


def test_every_class_has_its_group() -> None:
    found = named_targets({"parity": {"even": ["2", "0"], "odd": ["1", "3"]}}, CLASSES)
    assert found["class"].classes == CLASSES
    assert found["class"].of is None
    assert found["parity"].classes == ("even", "odd")
    assert found["parity"].of == (0, 1, 0, 1)


@pytest.mark.parametrize(
    ("groups", "what", "mend"),
    [
        ({"all": list(CLASSES)}, "target 'x' has 1 groups", "a classifier needs two or more"),
        (
            {"a": ["0", "1"], "b": ["2", "33"]},
            "target 'x' groups '33', which is no class",
            "did you mean '3'?",
        ),
        ({"a": ["0"], "b": ["1"]}, "target 'x' has '2', '3' in no group", "put each class into one group"),
        (
            {"a": ["0", "1", "2"], "b": ["2", "3"]},
            "target 'x' has '2' in more than one group",
            "put each class into one group",
        ),
    ],
)
def test_groups_that_do_not_fit(groups: dict[str, list[str]], what: str, mend: str) -> None:
    with pytest.raises(DataError) as caught:
        named_targets({"x": groups}, CLASSES)
    assert str(caught.value) == f"{what}\n  where: data.targets.x\n  mend:  {mend}"
