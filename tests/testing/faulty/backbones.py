"""A small backbone, and what its author may get wrong."""

import os
import sys
from dataclasses import replace

import torch
from torch import Tensor, nn

from zoo import Backbone, BackbonePart, Depths, FeatureSpec, InputSpec, Native, Options


class Faulty(Options):
    fault: str = ""
    """What is wrong."""


class Tiny(nn.Module):
    """Images to logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.fc: nn.Module = nn.Linear(12, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return self.body(self.norm(self.stem(images)).relu()).relu().mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))


class Odd(Tiny):
    """Tiny with a fault in what it computes."""

    def __init__(self, fault: str) -> None:
        super().__init__(1)
        self.fault = fault
        if fault == "an unused layer":
            self.spare = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        fault = self.fault
        if fault == "flattens a fixed size":
            images = images.reshape(len(images), 3, 32, 32)
        if fault == "normalises in place":
            images.sub_(images.mean())
        if fault == "ignores blue":
            images = images * torch.tensor([1.0, 1.0, 0.0])[:, None, None]
        if fault == "normalises by the batch":
            images = images - images.mean((0, 2, 3), keepdim=True)
        if fault == "dropout in eval mode":
            images = nn.functional.dropout(images, 0.1, training=True)
        if fault == "counts in eval mode":
            self.norm.num_batches_tracked += 1
        if fault == "statistics of its own":
            self.norm.running_mean.mul_(0.9).add_(0.1 * self.stem(images).mean((0, 2, 3)).detach())
        if fault == "detached stem":
            return self.fc(self.body(self.norm(self.stem(images).detach()).relu()).relu().mean((2, 3)))
        if fault == "only one memory format":
            images.view(len(images), -1)
        features = self.fc(self.features(images))
        if fault == "not a number in train mode" and self.training:
            return features / 0 * 0
        if fault == "scaled features":
            return features * 2
        if fault == "another shape for one image" and len(images) == 1:
            return features[0]
        if fault == "depends on its process" and os.environ.get("RANK") == "1":
            return features * 0.5
        return features


FAULTS = {
    "flattens a fixed size": "image sizes",
    "normalises in place": "channels",
    "ignores blue": "channels",
    "normalises by the batch": "batch independence",
    "dropout in eval mode": "batch independence",
    "counts in eval mode": "eval mode",
    "statistics of its own": "eval mode",
    "detached stem": "gradients",
    "an unused layer": "gradients",
    "frozen from the start": "gradients",
    "scaled features": "native classifier",
    "another shape for one image": "shapes",
    "wrong channels": "shapes",
    "a stage too few": "stages",
    "a stage twice": "stages",
    "stages backwards": "stage order",
    "renamed": "native names",
    "wrong code": "native code",
    "seeds torch": "seed",
    "always the same weights": "seed",
    "not on the meta device": "meta device",
    "mean of 0 to 255": "contract",
    "depths of half": "depths",
    "depths backwards": "depths",
    "always three classes in the code": "native code",
    "only one memory format": "training",
    "not a number in train mode": "training",
    "a mean of one number": "contract",
    "an unknown interpolation": "contract",
    "another default device": "process untouched",
    "ends the process": "shapes",
    "holds a lambda": "copies",
    "changes the default dtype": "process untouched",
    "reads the command line": "keeps to its options",
    "looks for the recipe": "keeps to its options",
    "prints": "process untouched",
}
"""Each fault, and the check that must find it."""
SLOW_FAULTS = {"depends on its process": "two processes"}


def build(options: Faulty, image_size: tuple[int, int] | None) -> Backbone:
    fault = options.fault
    _misbehave(fault)
    module = Odd(fault)
    if fault == "not on the meta device":
        module.stem.weight = nn.Parameter(torch.randn(8, 3, 3, 3, device="cpu"))
    if fault == "frozen from the start":
        module.stem.requires_grad_(False)
    if fault == "holds a lambda":
        module.stem.register_forward_hook(lambda _, given, out: out)
    if fault == "always the same weights":
        for parameter in module.parameters():
            nn.init.constant_(parameter, 0.1)
        module.stem.weight.data += torch.arange(216.0, device=module.stem.weight.device).view(8, 3, 3, 3) / 1000
    module.fc = nn.Identity()
    names = [name for name, _ in module.named_parameters()]
    depths = _depths(fault, names)
    native = Native("tests.testing.faulty.backbones", "tiny", "fc", Tiny, _code(fault))
    spec = InputSpec(size=(32, 32))
    if fault == "a mean of one number":
        spec = replace(spec, mean=(0.5,))
    if fault == "an unknown interpolation":
        spec = replace(spec, interpolation="cubic")
    if fault == "mean of 0 to 255":
        spec = replace(spec, mean=(123.7, 116.3, 103.5))
    found: nn.Module = Renamed(module) if fault == "renamed" else module
    return Backbone(found, FeatureSpec(13 if fault == "wrong channels" else 12), _stages(fault), native, spec, depths)


class Renamed(nn.Module):
    """Puts a prefix before every name."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stem, self.norm, self.body = inner.stem, inner.norm, nn.Sequential(inner.body)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(self.norm(self.stem(images)).relu()).relu().mean((2, 3))


def _stages(fault: str) -> tuple[str, ...]:
    stages = {
        "a stage too few": ("stem", "norm"),
        "a stage twice": ("stem", "stem.weight", "norm", "body"),
        "stages backwards": ("body", "norm", "stem"),
        "an unused layer": ("stem", "norm", "body", "spare"),
    }
    return stages.get(fault, ("stem", "norm", "body"))


def _depths(fault: str, names: list[str]) -> Depths:
    places = {"stem": 0, "norm": 0, "body": 1, "spare": 1}
    if fault == "depths backwards":
        places = {"stem": 1, "norm": 1, "body": 0}
    of = {name: places[name.partition(".")[0]] for name in names}
    return Depths(dict(list(of.items())[: len(of) // 2]) if fault == "depths of half" else of, 2)


def _code(fault: str) -> str:
    if fault == "always three classes in the code":
        return "tests.testing.faulty.backbones.Tiny(num_classes=3)"
    odd = "nn.Sequential" if fault == "wrong code" else "Tiny"
    return f"tests.testing.faulty.backbones.{odd}(num_classes=classes)"


def _misbehave(fault: str) -> None:
    if fault == "seeds torch":
        torch.manual_seed(0)
    if fault == "changes the default dtype":
        torch.set_default_dtype(torch.float32 if torch.get_default_dtype() == torch.float64 else torch.float64)
    if fault == "another default device":
        torch.set_default_device("cpu:0")
    if fault == "ends the process":
        sys.exit(0)
    if fault == "reads the command line":
        sys.argv[0]
    if fault == "looks for the recipe" and os.path.exists("recipe.toml"):
        with open("recipe.toml") as file:
            file.read()
    if fault == "prints":
        print("loading …")


PART = BackbonePart("faulty", build="tests.testing.faulty.backbones:build", options=Faulty, summary="a backbone")
