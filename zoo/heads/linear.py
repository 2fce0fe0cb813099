"""The `linear` head: dropout, one linear layer, cross-entropy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from zoo.registry.builtin.heads import LinearOptions
from zoo.registry.contracts import FeatureSpec, TargetSpec

if TYPE_CHECKING:
    from torchmetrics import Metric


class LinearHead(nn.Module):
    """Features (B, C) or (B, C, H, W), averaged over H and W, to logits (B, K)."""

    def __init__(self, features: FeatureSpec, classes: int, dropout: float = 0.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.pooled = features.pooled
        self.classes = classes
        self.label_smoothing = label_smoothing
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features.channels, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, K)."""
        pooled = features if self.pooled else features.mean((2, 3))  # (B, C)
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy (B,) in nats, for class indices (B,) or class probabilities (B, K)."""
        # In half precision the logarithm of small probabilities is rough.
        wanted = target.float() if target.is_floating_point() else target
        return cross_entropy(logits.float(), wanted, reduction="none", label_smoothing=self.label_smoothing)

    def metrics(self) -> "Mapping[str, Metric]":
        """Return fresh metrics: `accuracy`, the share of images whose largest logit is the right class."""
        from torchmetrics.classification import MulticlassAccuracy  # with scipy 1.5 s, and only a validation needs it

        # Validating arguments would wait on the device at every update.
        return {"accuracy": MulticlassAccuracy(self.classes, average="micro", validate_args=False)}

    def native_names(self) -> Mapping[str, str]:
        """Return where the layer's tensors go below the native classifier."""
        return {"linear.weight": "weight", "linear.bias": "bias"}


def build(options: LinearOptions, features: FeatureSpec, target: TargetSpec) -> LinearHead:
    """Return a head for these features and classes on torch's default device, initialised as torch does."""
    return LinearHead(features, len(target.classes), options.dropout, options.label_smoothing)
