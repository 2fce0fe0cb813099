"""The three policies for a checkpoint's own classifier."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.recipe.schema import WeightsTable
from zoo.registry.contracts import WeightsFile
from zoo.weights import Target, load_state

KEEP, BY_NAME = WeightsTable(head="keep"), WeightsTable(head="by-class-name")
CLASSES = ("cat", "dog", "owl")
Tensors = dict[str, Tensor]


@pytest.fixture
def file(tensors: Tensors, tmp_path: Path) -> WeightsFile:
    """The checkpoint, which knows its class names."""
    torch.save(tensors, tmp_path / "x.pth")
    return WeightsFile(tmp_path / "x.pth", origin="file x.pth", classes=CLASSES)


def _target(tensors: Tensors, classes: int) -> Tensors:
    backbone = {name: torch.zeros_like(value) for name, value in tensors.items() if not name.startswith("fc.")}
    return {**backbone, "fc.weight": torch.full((classes, 4), 9.0), "fc.bias": torch.full((classes,), 9.0)}


def _refusal(target: Tensors, file: WeightsFile, table: WeightsTable, classes: tuple[str, ...]) -> str:
    with pytest.raises(WeightsError) as caught:
        load_state(Target(target, classifier="fc", classes=classes), file, table)
    return str(caught.value)


@pytest.mark.parametrize("known", [CLASSES, None])
def test_keep_takes_the_classifier(known: tuple[str, ...] | None, tensors: Tensors, file: WeightsFile) -> None:
    target = _target(tensors, 3)
    load_state(Target(target, classifier="fc", classes=CLASSES), replace(file, classes=known), KEEP)
    assert all(torch.equal(target[name], tensors[name]) for name in target)


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        (("cat", "owl", "dog"), "class 1 is 'dog' in the file and 'owl' in the model"),
        (("cat", "dog"), "the file has 3 classes and the model 2"),
    ],
)
def test_keep_needs_the_same_classes(classes: tuple[str, ...], why: str, tensors: Tensors, file: WeightsFile) -> None:
    assert _refusal(_target(tensors, len(classes)), file, KEEP, classes) == (
        f'head = "keep", but {why}\n  where: {file.path}\n'
        '  mend:  head = "by-class-name" takes the rows by name; head = "reset" starts a new classifier'
    )


def test_keep_needs_the_same_shape(tensors: Tensors, file: WeightsFile) -> None:
    assert _refusal(_target(tensors, 5), replace(file, classes=None), KEEP, tuple("abcde")) == (
        "x.pth does not fit the model: 100 % of the backbone's 17 elements are covered\n"
        "  where: file x.pth\n"
        '  mend:  head = "reset" starts a new classifier\n'
        "of another shape or type: fc.weight (3 x 4 in the file, 5 x 4 in the model), "
        "fc.bias (3 in the file, 5 in the model)"
    )


def test_keep_needs_a_classifier_in_the_file(tensors: Tensors, tmp_path: Path) -> None:
    torch.save({name: value for name, value in tensors.items() if not name.startswith("fc.")}, tmp_path / "x.pth")
    assert _refusal(_target(tensors, 3), WeightsFile(tmp_path / "x.pth", "file x.pth"), KEEP, CLASSES) == (
        "x.pth does not fit the model: 100 % of the backbone's 17 elements are covered\n"
        "  where: file x.pth\n"
        '  mend:  head = "reset" starts a new classifier\n'
        "not in the file: fc.weight, fc.bias of the model"
    )


@pytest.mark.parametrize("table", [KEEP, BY_NAME])
def test_keeping_needs_a_head_with_a_native_form(table: WeightsTable, tensors: Tensors, file: WeightsFile) -> None:
    target = {name: value for name, value in _target(tensors, 3).items() if not name.startswith("fc.")}
    assert _refusal(target, file, table, CLASSES) == (
        f'head = "{table.head}", but the model\'s head has no native form\n  where: {file.path}\n'
        '  mend:  use a linear head, or head = "reset"'
    )


def test_rows_are_taken_by_class_name(tensors: Tensors, file: WeightsFile) -> None:
    target = _target(tensors, 4)
    ledger = load_state(Target(target, classifier="fc", classes=("owl", "bee", "cat", "ant")), file, BY_NAME)
    assert torch.equal(target["fc.weight"][[0, 2]], tensors["fc.weight"][[2, 0]])
    assert torch.equal(
        target["fc.bias"],
        torch.stack([tensors["fc.bias"][2], *[torch.tensor(9.0)] * 3]).index_copy(
            0, torch.tensor([2]), tensors["fc.bias"][:1]
        ),
    )
    assert ledger.initialised_classes == ("bee", "ant")
    assert [(entry.status, entry.reason, entry.elements) for entry in ledger.entries if entry.part == "head"] == [
        ("loaded", "2 of 4 rows by class name", 8),
        ("initialised", "2 rows of classes that the file lacks", 8),
        ("loaded", "2 of 4 rows by class name", 2),
        ("initialised", "2 rows of classes that the file lacks", 2),
    ]
    assert ledger.table().splitlines()[-1] == "new classes  bee, ant"


@pytest.mark.parametrize(
    ("known", "what", "hint"),
    [
        (
            None,
            'head = "by-class-name", but the file does not say which classes its rows are',
            'write a card with `classes`, or head = "reset" starts a new classifier',
        ),
        (
            ("cat", "cat", "owl"),
            "the file's class names hold 'cat' more than once",
            'head = "reset" starts a new classifier',
        ),
        (
            ("Cat", "Dog", "Owl"),
            "none of the model's 3 classes is among the file's 3",
            'class names are compared letter by letter; head = "reset" starts a new classifier',
        ),
    ],
)
def test_by_class_name_needs_names(
    known: tuple[str, ...] | None, what: str, hint: str, tensors: Tensors, file: WeightsFile
) -> None:
    message = _refusal(_target(tensors, 3), replace(file, classes=known), BY_NAME, CLASSES)
    assert message == f"{what}\n  where: {file.path}\n  mend:  {hint}"


def test_as_many_names_as_rows(tensors: Tensors, file: WeightsFile) -> None:
    message = _refusal(_target(tensors, 3), replace(file, classes=("cat", "dog")), BY_NAME, CLASSES)
    assert "fc.weight (3 x 4 in the file, 3 x 4 in the model) for 2 and 3 classes" in message
