"""A linear head, and what its author may get wrong."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax
from torchmetrics.classification import MulticlassAccuracy

from tests.testing.faulty.backbones import Faulty
from zoo import FeatureSpec, HeadPart, TargetSpec

SHARED: dict[str, Any] = {}


class Head(nn.Module):
    """Features to logits, with a fault."""

    def __init__(self, features: FeatureSpec, classes: int, fault: str) -> None:
        super().__init__()
        self.fault, self.classes = fault, classes
        self.pooled = features.pooled or fault == "takes pooled features alone"
        self.linear = nn.Linear(features.channels, 3 if fault == "three classes" else classes)
        if fault == "a parameter that is not used":
            self.scale = nn.Parameter(torch.ones(()))
        if fault == "always the same weights":
            nn.init.ones_(self.linear.weight), nn.init.zeros_(self.linear.bias)
            self.linear.weight.data += torch.arange(features.channels, device=self.linear.weight.device) / 10

    def forward(self, features: Tensor) -> Tensor:
        if self.fault == "scales in place":
            features.mul_(1.5)
        if self.fault == "dropout in eval mode":
            features = nn.functional.dropout(features, 0.2)
        if self.fault == "centres the batch":
            features = features - features.mean(0)
        pooled = features if self.pooled else features.mean((2, 3))
        if self.fault == "another pooling than the native form's" and not self.pooled:
            pooled = features.amax((2, 3))
        if self.fault == "detaches the features":
            pooled = pooled.detach()
        logits = self.linear(pooled)
        return 2 * logits if self.fault == "a temperature that the native form lacks" else logits

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.fault == "loss reduced":
            return cross_entropy(logits.float(), target)
        if self.fault == "no probabilities" and target.is_floating_point():
            return cross_entropy(logits.float(), target.argmax(1), reduction="none")
        if self.fault == "loss of the batch":
            losses = cross_entropy(logits.float(), target, reduction="none")
            return losses / losses.mean().detach()
        if self.fault == "a loss for three classes":
            weight = torch.tensor([1.0, 2.0, 3.0])
            return cross_entropy(logits.float(), target, weight, reduction="none")
        if self.fault == "ignores the first class" and not target.is_floating_point():
            return cross_entropy(logits.float(), target, reduction="none", ignore_index=0)
        if self.fault == "loss upside down":
            return -cross_entropy(logits.float(), target, reduction="none").clamp(max=50)
        if self.fault == "half precision loss":
            chosen = target if not target.is_floating_point() else target.argmax(1)
            found = logits.exp() / logits.exp().sum(1, keepdim=True)
            if target.is_floating_point():
                return -(target * log_softmax(logits, 1)).sum(1)
            return -found.gather(1, chosen[:, None])[:, 0].log()
        return cross_entropy(logits.float(), target, reduction="none")

    def metrics(self) -> Mapping[str, Any]:
        metric = MulticlassAccuracy(self.classes, average="micro", validate_args=False)
        if self.fault == "one metric for all":
            metric = SHARED.setdefault(str(self.classes), metric)
        if self.fault == "accuracy by class":
            metric = MulticlassAccuracy(self.classes, average="macro", validate_args=False)
        return {"acc" if self.fault == "another metric name" else "accuracy": metric}

    def native_names(self) -> Mapping[str, str]:
        if self.fault == "weight and bias exchanged":
            return {"linear.weight": "bias", "linear.bias": "weight"}
        return {"linear.weight": "weight", "linear.bias": "bias"}


FAULTS = {
    "takes pooled features alone": "shapes",
    "three classes": "shapes",
    "a parameter that is not used": "gradients",
    "always the same weights": "seed",
    "scales in place": "inputs untouched",
    "dropout in eval mode": "eval mode",
    "centres the batch": "eval mode",
    "detaches the features": "gradients",
    "a temperature that the native form lacks": "native names",
    "loss reduced": "loss unreduced",
    "no probabilities": "loss probabilities",
    "loss of the batch": "loss unreduced",
    "loss upside down": "loss direction",
    "a loss for three classes": "loss unreduced",
    "ignores the first class": "loss direction",
    "another pooling than the native form's": "native names",
    "half precision loss": "half precision",
    "one metric for all": "metrics declared",
    "another metric name": "metrics declared",
    "accuracy by class": "metrics right",
    "weight and bias exchanged": "native names",
}


def build(options: Faulty, features: FeatureSpec, target: TargetSpec) -> Head:
    return Head(features, len(target.classes), options.fault)


PART = HeadPart(
    "faulty",
    build="tests.testing.faulty.heads:build",
    options=Faulty,
    summary="a head",
    metrics={"accuracy": "max"},
)
