"""The models of the corpus: small ones of many families, built once, and the numbers that its files hold for them.

Where only a large network has a name that matters, it is cut down to a few channels and layers; the tensors' names and
layouts are the original's.
"""

import copy
import zlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import timm
import torch
import torchvision
from timm.layers import ClassifierHead
from timm.models.regnet import RegNetCfg
from timm.models.vgg import ConvMlp
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.regnet import BlockParams

State = dict[str, Tensor]
Build = Callable[[], nn.Module]
CLASSES = 10
PATCHES = {"embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "img_size": 32, "patch_size": 8}


class Own(nn.Module):
    """A user's own network, whose parts are truly called as wrappers and namespaces are."""

    def __init__(self) -> None:
        super().__init__()
        self.module = _unit(3)
        self.model = nn.Sequential(_unit(4), nn.Sequential(_unit(4)))
        self.fc = nn.Linear(4, CLASSES)


class Twice(nn.Module):
    """The same path with and without a module truly called `module`."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = _unit(3)
        self.module = nn.ModuleDict({"unit": _unit(3)})


class Words(nn.Module):
    """Units of one shape that words tell apart, not numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.entry, self.body, self.final = _unit(4), _unit(4), _unit(4)


class Tied(nn.Module):
    """A decoder that is its encoder's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(8, 4, bias=False), nn.Linear(4, 8)
        self.mirror = nn.Linear(8, 4, bias=False)
        self.mirror.weight = self.encode.weight


class Holder(nn.Module):
    """What keeps a network under a name of its own, as training code does."""

    def __init__(self, inner: nn.Module, name: str = "model") -> None:
        super().__init__()
        self.add_module(name, inner)


def _unit(channels: int) -> nn.Module:
    return nn.ModuleDict({"conv": nn.Conv2d(channels, 4, 3), "norm": nn.BatchNorm2d(4)})


def _timm(name: str, **options: Any) -> Build:
    return partial(timm.create_model, name, **{"num_classes": CLASSES, **options})


def _torchvision(name: str, **options: Any) -> Build:
    return partial(torchvision.models.get_model, name, **{"num_classes": CLASSES, **options})


def _densenet() -> nn.Module:
    return torchvision.models.DenseNet(8, (2, 2), 16, num_classes=CLASSES)


def _vgg(torchvisions: bool) -> nn.Module:
    """VGG without its 4096 hidden numbers."""
    if not torchvisions:
        vgg = timm.create_model("vgg11", num_classes=CLASSES, device="meta")
        vgg.features = timm.models.VGG([8, "M", 16, "M"], mlp_ratio=0.001).features
        vgg.pre_logits, vgg.head = ConvMlp(16, 24, 7), ClassifierHead(24, CLASSES)
        return vgg
    with torch.device("meta"):
        other = torchvision.models.vgg11(num_classes=CLASSES)
    other.features = torchvision.models.vgg.make_layers([8, "M", 16, "M"])
    layers = (nn.Linear(16 * 49, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 24), nn.ReLU(), nn.Dropout())
    other.classifier = nn.Sequential(*layers, nn.Linear(24, CLASSES))
    return other


def _convnext(torchvisions: bool) -> nn.Module:
    if not torchvisions:
        return timm.models.ConvNeXt(depths=(1, 2, 1, 1), dims=(16, 32, 48, 64), num_classes=CLASSES)
    widths = ((16, 32, 1), (32, 48, 2), (48, 64, 1), (64, None, 1))
    return torchvision.models.ConvNeXt([CNBlockConfig(*width) for width in widths], num_classes=CLASSES)


def _regnet(torchvisions: bool) -> nn.Module:
    if not torchvisions:
        config = RegNetCfg(w0=16, wa=8.0, wm=1.6, group_size=8, depth=7, se_ratio=0.25)
        return timm.models.RegNet(config, num_classes=CLASSES)
    widths = BlockParams.from_init_params(depth=7, w_0=16, w_a=8.0, w_m=1.6, group_width=8, se_ratio=0.25)
    return torchvision.models.RegNet(widths, num_classes=CLASSES)


def _vit(torchvisions: bool) -> nn.Module:
    if not torchvisions:
        return timm.models.VisionTransformer(**PATCHES, num_classes=CLASSES)
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=CLASSES)


def _swin(torchvisions: bool) -> nn.Module:
    sizes: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "num_classes": CLASSES}
    if not torchvisions:
        return timm.models.SwinTransformer(img_size=32, patch_size=4, window_size=4, **sizes)
    return torchvision.models.SwinTransformer(patch_size=[4, 4], window_size=[4, 4], **sizes)


BUILDS: dict[str, Build] = {
    "timm/test_resnet": _timm("test_resnet"),
    "timm/test_resnet, 5 classes": _timm("test_resnet", num_classes=5),
    "timm/test_resnet, 1 channel": _timm("test_resnet", in_chans=1),
    "timm/test_resnet, half": lambda: timm.create_model("test_resnet", num_classes=CLASSES).half(),
    "timm/test_resnet, bfloat16": lambda: timm.create_model("test_resnet", num_classes=CLASSES).bfloat16(),
    "timm/test_vit": _timm("test_vit"),
    "timm/test_vit, 128 px": _timm("test_vit", img_size=128),
    "timm/test_vit, patch 8": _timm("test_vit", patch_size=8),
    "timm/test_vit, patch 32": _timm("test_vit", patch_size=32),
    "timm/test_convnext": _timm("test_convnext"),
    "timm/test_convnext, deeper": _timm("test_convnext", depths=(1, 2, 5, 2)),
    "timm/test_efficientnet": _timm("test_efficientnet"),
    "timm/mobilenetv3_small_050": _timm("mobilenetv3_small_050"),
    "timm/mobilenetv3_small_075": _timm("mobilenetv3_small_075"),
    "timm/mobilenetv3_small_100": _timm("mobilenetv3_small_100"),
    "timm/regnetx_002": _timm("regnetx_002"),
    "timm/resnet50": _timm("resnet50"),
    "timm/wide_resnet50_2": _timm("wide_resnet50_2"),
    "timm/mobilenetv2_100": _timm("mobilenetv2_100"),
    "timm/mnasnet_050": _timm("mnasnet_050"),
    "timm/efficientnet_b0": _timm("efficientnet_b0"),
    "timm/regnet, cut": partial(_regnet, False),
    "timm/vit, cut": partial(_vit, False),
    "timm/swin, cut": partial(_swin, False),
    "timm/convnext, cut": partial(_convnext, False),
    "timm/vgg, cut": partial(_vgg, False),
    "torchvision/resnet18": _torchvision("resnet18"),
    "torchvision/resnet34": _torchvision("resnet34"),
    "torchvision/mobilenet_v2": _torchvision("mobilenet_v2"),
    "torchvision/mobilenet_v3_small": _torchvision("mobilenet_v3_small"),
    "torchvision/mnasnet0_5": _torchvision("mnasnet0_5"),
    "torchvision/efficientnet_b0": _torchvision("efficientnet_b0"),
    "torchvision/densenet, cut": _densenet,
    "torchvision/regnet, cut": partial(_regnet, True),
    "torchvision/vit, cut": partial(_vit, True),
    "torchvision/swin, cut": partial(_swin, True),
    "torchvision/convnext, cut": partial(_convnext, True),
    "torchvision/vgg, cut": partial(_vgg, True),
    "own": Own,
    "own, twice": Twice,
    "own, words": Words,
    "own, tied": Tied,
    "own, squares": lambda: nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))),
}
SMALL = (
    *("timm/test_resnet", "timm/test_vit", "timm/test_convnext", "timm/test_efficientnet", "torchvision/swin, cut"),
    *("torchvision/densenet, cut", "timm/mobilenetv3_small_050", "torchvision/vit, cut", "timm/regnetx_002", "own"),
)
"""What is quick enough to be loaded again and again."""


@cache
def _built(architecture: str) -> tuple[nn.Module, State]:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = BUILDS[architecture]()
    return model, {name: value.detach().clone() for name, value in model.state_dict().items()}


def fresh(architecture: str) -> nn.Module:
    """Return the one model of this architecture, with its first values again."""
    model, born = _built(architecture)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(born[name])
    return model


def born(architecture: str) -> State:
    """Return the values that a fresh model has."""
    return dict(_built(architecture)[1])


@cache
def _trained(architecture: str, seed: int) -> State:
    tied = {value.data_ptr(): name for name, value in reversed(_built(architecture)[0].state_dict().items())}
    owners = {name: tied[value.data_ptr()] for name, value in _built(architecture)[0].state_dict().items()}
    return {name: _moved(owners[name], value, seed) for name, value in _built(architecture)[1].items()}


def trained(architecture: str, seed: int = 0) -> State:
    """Return values as training leaves them: every tensor moved, no variance below a half, batches counted."""
    return dict(_trained(architecture, seed))


def _moved(name: str, value: Tensor, seed: int) -> Tensor:
    last = name.split(".")[-1]
    number = zlib.crc32(f"{name} {seed}".encode())
    if last == "num_batches_tracked":
        return value + 1000 + number % 1000
    if not value.is_floating_point():
        return value.clone()
    noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(number)).to(value.dtype)
    return value.abs() + 0.5 + noise.abs() if last == "running_var" else value + 0.05 * noise


def holding(architecture: str, values: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Return a model of its own that holds `values`, the trained ones when left out."""
    model = copy.deepcopy(_built(architecture)[0])
    model.load_state_dict(trained(architecture) if values is None else dict(values))
    return model
