"""The model: names, the sum of losses, and what its tensors are called natively."""

import timm
import torch
import torchvision
from torch.nn.functional import cross_entropy

from tests.train.tiny import CLASSES, make_backbone, make_model
from zoo.backbones.torchvision import build as build_torchvision
from zoo.heads.linear import LinearHead
from zoo.registry.builtin.backbones import TorchvisionOptions
from zoo.train.model import Model, native_names, native_state

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_names() -> None:
    backbone = make_backbone()
    names = list(make_model(backbone).state_dict())
    assert names[-2:] == ["heads.main.linear.weight", "heads.main.linear.bias"]
    assert names[:-2] == [f"backbone.{name}" for name in backbone.module.state_dict()]


def test_logits_by_head() -> None:
    logits = make_model(heads=("main", "second"))(IMAGES)
    assert {name: value.shape for name, value in logits.items()} == {"main": (2, CLASSES), "second": (2, CLASSES)}


def test_loss_is_the_weighted_sum_of_the_heads_losses() -> None:
    model, target = make_model(heads=("main", "second")), torch.tensor([0, 2])
    logits = model(IMAGES)
    first, second = (cross_entropy(logits[name], target, reduction="none") for name in ("main", "second"))
    torch.testing.assert_close(model.loss(logits, target), first + 0.5 * second)


def test_native_state_of_timm_loads_strictly() -> None:
    backbone = make_backbone()
    model = make_model(backbone).eval()
    native = timm.create_model("test_resnet", num_classes=CLASSES).eval()
    native.load_state_dict(native_state(model, native_names(model, backbone, "main")), strict=True)
    torch.testing.assert_close(native(IMAGES), model(IMAGES)["main"])


def test_native_state_of_torchvision_loads_strictly() -> None:
    backbone = build_torchvision(TorchvisionOptions(arch="resnet18"), (32, 32))
    model = make_model(backbone).eval()
    native = torchvision.models.resnet18(num_classes=CLASSES).eval()
    native.load_state_dict(native_state(model, native_names(model, backbone, "main")), strict=True)
    torch.testing.assert_close(native(IMAGES), model(IMAGES)["main"])


def test_native_state_is_not_copied() -> None:
    backbone = make_backbone()
    model = make_model(backbone)
    state = native_state(model, native_names(model, backbone, "main"))
    assert state["fc.weight"].data_ptr() == model.state_dict()["heads.main.linear.weight"].data_ptr()


def test_without_a_native_classifier_only_the_backbone_has_native_names() -> None:
    backbone = build_torchvision(TorchvisionOptions(arch="squeezenet1_1"), (64, 64))
    names = native_names(make_model(backbone), backbone, "main")
    assert set(names.values()) == {f"backbone.{name}" for name in backbone.module.state_dict()}


def test_a_head_reads_its_target_through_groups() -> None:
    backbone = make_backbone()
    heads = {"main": LinearHead(backbone.spec, 3, 0.0), "pair": LinearHead(backbone.spec, 2, 0.0)}
    model = Model(backbone, heads, {"main": 1.0, "pair": 1.0}, {"pair": (1, 0, 1)})
    target = torch.tensor([0, 1, 2])
    assert model.target("main", target) is target
    assert model.target("pair", target).tolist() == [1, 0, 1]
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    assert model.target("pair", shares).tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert not any("groups" in name for name in model.state_dict())
    assert torch.isfinite(model.loss(model(torch.randn(3, 3, 32, 32)), target)).all()
