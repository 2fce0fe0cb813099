"""Parts that are as they should be, and unlike zoo's own: the kit must not cry wolf."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

import zoo


class Spatial(nn.Module):
    """Images to logits; three padded convolutions round an odd side up."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1))
        self.fc: nn.Module = nn.Linear(16, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return self.body(self.stem(images).tanh())

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).mean((2, 3)))


class Unpooled(Spatial):
    """Images to features (B, C, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)


def backbone(options: zoo.NoOptions, image_size: tuple[int, int] | None) -> zoo.Backbone:
    module = Unpooled(1)
    module.fc = nn.Identity()
    native = zoo.Native(
        "tests.testing.sound", "spatial", "fc", Spatial, "tests.testing.sound.Spatial(num_classes=classes)"
    )
    spec = zoo.FeatureSpec(16, pooled=False, stride=8)
    return zoo.Backbone(module, spec, ("stem", "body"), native, zoo.InputSpec(size=(76, 76)))


class Head(nn.Module):
    """A hidden layer; measures the best five and the error."""

    def __init__(self, features: zoo.FeatureSpec, classes: int) -> None:
        super().__init__()
        self.pooled, self.classes = features.pooled, classes
        self.layers = nn.Sequential(nn.Linear(features.channels, 16), nn.GELU(), nn.Linear(16, classes))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features if self.pooled else features.mean((2, 3)))

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Focal, not linear in the target."""
        wanted = target.float() if target.is_floating_point() else target
        losses = cross_entropy(logits.float(), wanted, reduction="none")
        return (1 - (-losses).exp()) ** 2 * losses

    def metrics(self) -> Mapping[str, Any]:
        many = min(5, self.classes)
        return {"top5": MulticlassAccuracy(self.classes, top_k=many, average="micro", validate_args=False)}

    def native_names(self) -> Mapping[str, str]:
        return {}


def head(options: zoo.NoOptions, features: zoo.FeatureSpec, target: zoo.TargetSpec) -> Head:
    return Head(features, len(target.classes))


class Never:
    """Asks for less than the event has, as pluggy allows."""

    @zoo.hookimpl
    def should_stop(self) -> None:
        return None


def callback(options: zoo.NoOptions, folder: Path) -> Never:
    return Never()


PARTS = (
    zoo.BackbonePart("spatial", build="tests.testing.sound:backbone", summary="unpooled"),
    zoo.HeadPart("focal", build="tests.testing.sound:head", summary="focal", metrics={"top5": "max"}),
    zoo.CallbackPart("never", build="tests.testing.sound:callback", summary="never stops"),
)
