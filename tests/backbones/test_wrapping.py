"""`zoo.wrap_classifier`: any library's classifier as a backbone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import Tensor, nn

import zoo
from zoo.export.native import native_code
from zoo.registry.contracts import Backbone, Described, FeatureSpec, InputSpec
from zoo.testing.backbones import CHECKS
from zoo.testing.kit import Check, NotTriedError, Trial

INPUT = InputSpec(size=(32, 32))


def resnet18(image_size: tuple[int, int] | None = None) -> Backbone:
    """The ten lines of a plugin."""
    return zoo.wrap_classifier(
        lambda classes: torchvision.models.resnet18(num_classes=classes),
        library="torchvision",
        arch="resnet18",
        code="torchvision.models.resnet18(num_classes=classes)",
        input=INPUT,
        image_size=image_size,
    )


def test_it_is_what_zoo_itself_makes_of_the_network(check_all: Callable[[Backbone, tuple[int, int]], None]) -> None:
    built = resnet18()
    assert (built.spec, built.native.classifier, built.input) == (FeatureSpec(512), "fc", INPUT)
    assert built.stages == ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
    assert built.native.identity == "torchvision/resnet18"
    assert built.native.call(7) == "torchvision.models.resnet18(num_classes=7)"
    check_all(built, (32, 32))


@dataclass
class Output:
    """What some libraries give instead of logits."""

    logits: Tensor
    other: None = None


class Wide(nn.Module):
    """Two sizes in one class; its forward gives an object."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 8, stride=8)
        self.last = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Output:
        return Output(self.last(self.body(images).mean((2, 3))))


@dataclass(frozen=True)
class CreateWide:
    width: int

    def __call__(self, classes: int) -> nn.Module:
        return Wide(classes, self.width)


def wide(width: int) -> Backbone:
    return zoo.wrap_classifier(
        CreateWide(width),
        library="tests.backbones.test_wrapping",
        arch="wide",
        code=f"tests.backbones.test_wrapping.Wide(classes=classes, width={width})",
        input=INPUT,
        image_size=None,
        arguments={"width": width},
        logits="logits",
    )


def build_wide(options: zoo.NoOptions, image_size: tuple[int, int] | None) -> Backbone:
    return wide(6)


def test_logits_are_taken_out_of_what_the_library_gives() -> None:
    built = wide(6)
    images = torch.rand(2, 3, 32, 32)
    assert built.module(images).shape == (2, 6)
    assert built.native.build(5)(images).shape == (2, 5)
    assert list(built.module.state_dict()) == ["body.weight", "body.bias"]
    assert built.native.arguments == {"width": 6}


def test_one_name_in_two_sizes_is_measured_twice() -> None:
    assert (wide(6).spec, wide(9).spec) == (FeatureSpec(6), FeatureSpec(9))


def test_the_code_of_an_artefact_takes_logits_out_too() -> None:
    model = Described(native=wide(6).native, input=INPUT, classes=("a", "b", "c"))
    names: dict[str, nn.Module] = {}
    wanted = Wide(3, 6)
    code = native_code(model, imports="import torch", load="STATE").replace("STATE", "wanted.state_dict()")
    exec(code, {"wanted": wanted}, names)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(names["network"](images), wanted(images).logits)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_kit_finds_nothing_wrong_with_it(check: Check, tmp_path: Path) -> None:
    part = zoo.BackbonePart("wide", build="tests.backbones.test_wrapping:build_wide")
    if check.name == "depths":
        with pytest.raises(NotTriedError, match="^it declares no depths: stages count as layers$"):
            check(Trial(part, zoo.NoOptions(), tmp_path))
    else:
        check(Trial(part, zoo.NoOptions(), tmp_path))


def test_a_size_that_the_network_cannot_take_is_refused_in_the_same_words() -> None:
    with pytest.raises(zoo.ZooError) as caught:
        zoo.wrap_classifier(
            lambda classes: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, classes)),
            library="lib",
            arch="flat",
            code="lib.flat(classes=classes)",
            input=INPUT,
            image_size=(16, 16),
        )
    assert str(caught.value) == (
        "lib/flat cannot take images of 16 x 16 pixels: "
        "a and b must have same reduction dim, but got [1, 768] X [3072, 2].\n"
        "  where: [data] image_size\n"
        "  mend:  its weights expect 32 x 32"
    )


def test_an_end_that_is_no_linear_layer_is_refused() -> None:
    with pytest.raises(zoo.ZooError) as caught:
        zoo.wrap_classifier(
            lambda classes: nn.Sequential(nn.Conv2d(3, classes, 32), nn.Flatten()),
            library="lib",
            arch="convolved",
            code="lib.convolved(classes=classes)",
            input=INPUT,
            image_size=None,
        )
    assert str(caught.value) == (
        "lib/convolved does not end in one linear layer with a bias on pooled features (B, C)\n"
        "  where: [backbone] arch\n"
        "  mend:  choose another arch"
    )


def test_a_number_of_classes_is_put_in_whatever_the_library_calls_it() -> None:
    native = SimpleNamespace(code='lib.make("classes", num_labels=classes, subclasses=classes_of(3))')
    assert zoo.Native.call(native, 4) == 'lib.make("classes", num_labels=4, subclasses=classes_of(3))'  # type: ignore[arg-type]
