"""Built-in callbacks."""

from pydantic import Field

from zoo.registry.parts import CallbackPart, NoOptions, Options


class EarlyStopOptions(Options):
    """Stop when the validation metric has not improved for some epochs."""

    patience: int = Field(4, ge=1)
    """Epochs without improvement before the run stops."""
    min_delta: float = Field(0.0, ge=0)
    """The least change that counts as an improvement, in the metric's own unit."""
    metric: str = "best_by"
    """The metric watched; "best_by" is the run's own."""


PARTS = (
    CallbackPart(
        "progress",
        build="zoo.callbacks.progress:build",
        options=NoOptions,
        summary="epochs, images/s, time left, metrics; plain lines when not a terminal",
    ),
    CallbackPart(
        "metrics-jsonl",
        build="zoo.callbacks.metrics_jsonl:build",
        options=NoOptions,
        summary="one line of metrics.jsonl an epoch",
    ),
    CallbackPart(
        "early-stop",
        build="zoo.callbacks.early_stop:build",
        options=EarlyStopOptions,
        summary="stop when a metric no longer improves",
    ),
)
