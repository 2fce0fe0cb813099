"""Classifiers: of the same classes, of the same in another order, of some of them, of none."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from tests.weights.corpus.case import Case, Truth, changed, refused, short, whole
from tests.weights.corpus.models import State

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay")
TURNED = CLASSES[3:] + CLASSES[:3]
HEADS = {
    "timm/test_resnet": "fc",
    "timm/test_vit": "head",
    "timm/test_efficientnet": "classifier",
    "timm/test_convnext": "head.fc",
    "torchvision/densenet, cut": "classifier",
    "torchvision/swin, cut": "head",
}
"""The classifier of each architecture."""
RESNET, FIVE = "timm/test_resnet", "timm/test_resnet, 5 classes"


def cases() -> Iterator[Case]:
    for architecture, head in HEADS.items():
        yield from _permuted(architecture, head)
    yield from _some()
    yield from _names()
    yield from _unnamed()
    yield from _dropped()


def rows(known: Sequence[str], wanted: Sequence[str], head: str, file: State, first: State) -> State:
    """Return the file's values, the classifier's by class: those that the file does not know stay as they are."""
    after = dict(file)
    for last in ("weight", "bias"):
        name = f"{head}.{last}"
        own, given = first[name], file[name]
        after[name] = torch.stack(
            [given[known.index(word)] if word in known else own[place] for place, word in enumerate(wanted)]
        )
    return after


def _first_head(head: str, file: State, first: State) -> State:
    return {**file, **{name: value for name, value in first.items() if name.startswith(f"{head}.")}}


def _case(
    name: str,
    architecture: str,
    truth: Truth,
    known: Sequence[str] | None,
    policy: str,
    change: Any = dict,
    **more: Any,
) -> Case:
    """Return the case of a file of `known` classes that is loaded by `policy` into a model of CLASSES."""
    head = HEADS.get(architecture.partition(",")[0], HEADS.get(architecture, ""))
    options = {"classes": CLASSES, "classifier": head, "head": policy, **more.pop("options", {})}
    classes = {"classes": tuple(known)} if known is not None else {}
    return changed("head", name, architecture, change, truth, classes, options=options, **more)


def _permuted(architecture: str, head: str) -> Iterator[Case]:
    name, by_name = short(architecture), "by-class-name"
    yield _case(f"permuted, by name, {name}", architecture, partial(rows, TURNED, CLASSES, head), TURNED, by_name)
    other = refused(r"head = \"keep\", but class 0 is 'dog' in the file and 'ant' in the model")
    yield _case(f"permuted, kept, {name}", architecture, other, TURNED, "keep")
    yield _case(f"the same, kept, {name}", architecture, whole, CLASSES, "keep")
    yield _case(f"reset, {name}", architecture, partial(_first_head, head), TURNED, "reset", by_option=True)


def _some() -> Iterator[Case]:
    mixed = ("zebra", "hen", "ant", "yak", "fox")
    for name, wanted in (("some of the classes", ("jay", "cat", "ant", "hen", "bee")), ("some new classes", mixed)):
        truth = partial(rows, CLASSES, wanted, "fc")
        options = {"classes": wanted}
        yield _case(name, FIVE, truth, CLASSES, "by-class-name", source=RESNET, options=options)
    truth = partial(rows, mixed, CLASSES, "fc")
    yield _case("more classes than the file", RESNET, truth, mixed, "by-class-name", source=FIVE)
    options = {"classes": CLASSES[:5]}
    more = refused(r'head = "keep", but the file has 10 classes and the model 5')
    yield _case("fewer classes, kept", FIVE, more, CLASSES, "keep", source=RESNET, options=options)
    first = partial(_first_head, "fc")
    yield _case("fewer classes, reset", FIVE, first, CLASSES, "reset", source=RESNET, options=options)


def _names() -> Iterator[Case]:
    by_name = "by-class-name"
    unsaid = refused(r'head = "by-class-name", but the file does not say which classes its rows are')
    yield _case("the file names no classes", RESNET, unsaid, None, by_name, by_option=True)
    yield _case("the file names no classes, kept", RESNET, whole, None, "keep")
    twice = refused(r"the file's class names hold 'ant' more than once")
    yield _case("a class twice in the file", RESNET, twice, (*CLASSES[:9], "ant"), by_name, by_option=True)
    none = refused(r"none of the model's 10 classes is among the file's 10")
    yield _case("no class in common", RESNET, none, tuple(map(str, range(10))), by_name)
    capitals = refused(r"none of the model's 10 classes is among the file's 10", r".*letter by letter.*")
    yield _case("other letters", RESNET, capitals, tuple(map(str.upper, CLASSES)), by_name, by_option=True)
    count = refused(r"of another shape or type: fc\.weight .+ for 9 and 10 classes.*")
    yield _case("fewer names than rows", RESNET, count, CLASSES[:9], by_name, by_option=True)


def _unnamed() -> Iterator[Case]:
    """What is asked of the classifier cannot be done while nobody says which tensors it is."""
    told = refused(r".*classifier.*")
    for policy in ("by-class-name", "keep", "reset"):
        name, options = f"permuted, {policy}, no classifier given", {"classifier": None}
        yield _case(name, RESNET, told, TURNED, policy, options=options, by_option=True)


def _without(prefix: str, state: State) -> Any:
    return {name: value for name, value in state.items() if not name.startswith(prefix)}


def _renamed(state: State) -> Any:
    """The names of OpenMMLab's classifiers."""
    return {f"head.{name}" if name.startswith("fc.") else f"backbone.{name}": value for name, value in state.items()}


def _dropped() -> Iterator[Case]:
    first = partial(_first_head, "fc")
    lacking = refused(r"not in the file: fc\.weight, fc\.bias of the model", r'  mend:  head = "reset" starts .+')
    yield _case("no classifier in the file, kept", RESNET, lacking, None, "keep", partial(_without, "fc."))
    yield _case("no classifier in the file, reset", RESNET, first, None, "reset", partial(_without, "fc."))
    bias = refused(r"not in the file: fc\.bias of the model")
    yield _case("no bias in the file", RESNET, bias, CLASSES, "by-class-name", partial(_without, "fc.bias"))
    other = refused(r"not in the file: fc\.weight, fc\.bias of the model", r"not in the model: .+ of the file")
    yield _case("a classifier of another name, kept", RESNET, other, None, "keep", _renamed)
    yield _case("a classifier of another name, reset", RESNET, first, None, "reset", _renamed)
