"""Built-in heads."""

from pydantic import Field

from zoo.registry.parts import HeadPart, Options


class LinearOptions(Options):
    """Dropout, then one linear layer: the classifier that most architectures end in."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of dropping a feature in training."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread evenly over all classes, in training and in `val/loss`."""


PARTS = (
    HeadPart(
        "linear",
        build="zoo.heads.linear:build",
        options=LinearOptions,
        summary="dropout and one linear layer, cross-entropy",
        metrics={"accuracy": "max"},
    ),
)
