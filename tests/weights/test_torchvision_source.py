"""torchvision's own weights, served by a real server on this machine under a name with their real digest."""

import io
from hashlib import sha256
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models import ResNet18_Weights, get_model, get_model_weights, list_models

from tests.fileserver import FileServer, files
from zoo.backbones import torchvision as backbones
from zoo.errors import WeightsError
from zoo.recipe.schema import WeightsTable
from zoo.registry.builtin.backbones import TorchvisionOptions
from zoo.registry.builtin.weights import TorchvisionWeightsOptions
from zoo.registry.contracts import InputSpec, Native, WeightsFile, WeightsRequest
from zoo.weights import Target, load_state
from zoo.weights import torchvision as source
from zoo.weights.names import match

__all__ = ["files"]  # the fixture

DEFAULT = TorchvisionWeightsOptions()


def _asking(library: str, arch: str, cache: Path) -> WeightsRequest:
    return WeightsRequest(Native(library, arch, "fc", lambda classes: nn.Identity(), ""), (), cache)


def _refusal(options: TorchvisionWeightsOptions, request: WeightsRequest) -> str:
    with pytest.raises(WeightsError) as caught:
        source.build(options, request)
    return str(caught.value)


@pytest.fixture
def model() -> nn.Module:
    """A resnet18 of no training."""
    torch.manual_seed(0)
    return get_model("resnet18", weights=None).eval()


@pytest.fixture
def served(model: nn.Module, files: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """A server that has that model in the place of torchvision's."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    body = buffer.getvalue()
    name = f"/models/resnet18-{sha256(body).hexdigest()[:8]}.pth"
    files.files[name] = body
    monkeypatch.setattr(source, "address", lambda weights: f"{files.address}{name}")
    return files


def test_the_enum_says_all_there_is_to_know(served: FileServer, tmp_path: Path) -> None:
    found = source.build(DEFAULT, _asking("torchvision", "resnet18", tmp_path))
    [(name, body)] = served.files.items()
    digest = sha256(body).hexdigest()
    assert found == WeightsFile(
        tmp_path / "downloads" / digest[:8] / Path(name).name,
        origin="torchvision resnet18 IMAGENET1K_V1 (ImageNet-1K acc@1 69.758)",
        sha256=digest,
        architecture="torchvision/resnet18",
        input=InputSpec((224, 224), interpolation="bilinear", crop_pct=224 / 256),
        classes=tuple(ResNet18_Weights.DEFAULT.meta["categories"]),
        licence="torchvision states none",
    )


def test_a_backbone_takes_them_with_equal_logits(served: FileServer, model: nn.Module, tmp_path: Path) -> None:
    served.drops = [1_000_000, 2_000_000]
    backbone = backbones.build(TorchvisionOptions(arch="resnet18"), None)
    file = source.build(DEFAULT, WeightsRequest(backbone.native, (), tmp_path))
    native = backbone.native.build(1000).eval()
    classes = file.classes or ()
    ledger = load_state(
        Target(native.state_dict(), native, "fc", classes, backbone.native.identity), file, WeightsTable(head="keep")
    )
    assert ledger.coverage == 1.0
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(native(images), model(images))
    assert [wanted for _, wanted in served.asked] == ["", "bytes=1000000-", "bytes=3000000-"]


def test_timms_resnet_takes_them_with_equal_logits(served: FileServer, model: nn.Module, tmp_path: Path) -> None:
    file = source.build(DEFAULT, _asking("timm", "resnet18", tmp_path))
    assert file.architecture == "torchvision/resnet18"
    same = timm.create_model("resnet18", pretrained=False).eval()
    load_state(
        Target(same.state_dict(), same, "fc", file.classes or (), "timm/resnet18"), file, WeightsTable(head="keep")
    )
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(same(images), model(images), atol=1e-5)


def test_the_same_network_of_another_name_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = _refusal(DEFAULT, _asking("timm", "mobilenetv2_100", tmp_path))
    assert message.startswith("mobilenet_v2-7ebf99e0.pth is not in the cache")


@pytest.mark.parametrize("arch", sorted(source.AUXILIARY))
def test_classifiers_that_only_served_training_are_dropped(arch: str, tmp_path: Path) -> None:
    full = get_model(arch, weights=None, aux_logits=True, init_weights=False)
    torch.save(full.state_dict(), tmp_path / "x.pth")
    backbone = backbones.build(TorchvisionOptions(arch=arch), None)
    file = WeightsFile(tmp_path / "x.pth", "a file", may_drop=source.AUXILIARY[arch])
    target = Target(backbone.module.state_dict(), backbone.module, "fc")
    ledger = load_state(target, file, WeightsTable())
    assert ledger.coverage == 1.0
    dropped = {(entry.source or "").split(".")[0] for entry in ledger.entries if entry.status == "dropped"}
    assert dropped == {"fc", *(pattern.removesuffix(".*") for pattern in source.AUXILIARY[arch])}


def test_the_older_names_of_a_densenet_land(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = list(get_model("densenet121", weights=None).state_dict())
    old = [name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") for name in names]
    assert old != names
    assert [found.target for found in match(old, names, source.OLDER["densenet"])] == names


def test_the_older_names_of_a_vision_transformer_land(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = list(get_model("vit_b_32", weights=None).state_dict())
    old = [name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.") for name in names]
    assert old != names
    assert [found.target for found in match(old, names, source.OLDER["vit_"])] == names


def test_another_digest_than_the_names_is_refused(served: FileServer, tmp_path: Path) -> None:
    [(name, _)] = served.files.items()
    served.files[name] = b"wrong"
    prefix = name.split("-")[1][:8]
    assert _refusal(DEFAULT, _asking("torchvision", "resnet18", tmp_path)) == (
        f"{Path(name).name} came with sha256 {sha256(b'wrong').hexdigest()}, not one that begins with {prefix}: "
        "removed\n"
        "  mend:  they were another file's, or the file was replaced: check the address and the sha256"
    )


def test_offline_says_the_ways_out(files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _refusal(DEFAULT, _asking("torchvision", "resnet18", tmp_path)) == (
        "resnet18-f37072fd.pth is not in the cache, and download.pytorch.org cannot be asked: HF_HUB_OFFLINE is set\n"
        "  where: https://download.pytorch.org/models/resnet18-f37072fd.pth\n"
        '  mend:  download it elsewhere and name it with use = "file"; or use = "card" with weights that are here; '
        "or fill the cache where there is a network"
    )


def test_weights_that_torchvision_lacks_name_the_nearest(tmp_path: Path) -> None:
    options = TorchvisionWeightsOptions(weights="IMAGENET1K_V2")
    assert _refusal(options, _asking("torchvision", "resnet18", tmp_path)) == (
        "torchvision has no weights 'IMAGENET1K_V2' for resnet18\n"
        "  where: [weights] weights\n"
        "  mend:  did you mean 'IMAGENET1K_V1'?"
    )


@pytest.mark.parametrize(
    ("library", "arch", "hint"),
    [
        ("timm", "efficientnet_b5", '[backbone] use = "torchvision", arch = "efficientnet_b5"; or other weights'),
        ("timm", "resnet26", '[backbone] use = "torchvision"'),
        ("mine", "tiny", '[backbone] use = "torchvision"'),
    ],
)
def test_another_network_is_refused(library: str, arch: str, hint: str, tmp_path: Path) -> None:
    assert _refusal(DEFAULT, _asking(library, arch, tmp_path)) == (
        f"torchvision has no network that is the same as {library}/{arch}\n  where: [weights] use\n  mend:  {hint}"
    )


def test_every_entry_of_torchvision_is_understood() -> None:
    for arch in list_models(module=torchvision.models):
        for weights in get_model_weights(arch):
            assert len(source._digits(source.address(weights))) >= 8
            assert "acc@1" in source._origin(arch, weights) or not weights.meta["_metrics"]
            assert 0 < source._input(weights).crop_pct <= 1


def test_a_name_without_digits_is_refused() -> None:
    with pytest.raises(WeightsError) as caught:
        source._digits("https://h/x.pth")
    assert str(caught.value) == (
        'x.pth has no part of its SHA-256 in its name\n  where: https://h/x.pth\n  mend:  use = "url"'
    )
