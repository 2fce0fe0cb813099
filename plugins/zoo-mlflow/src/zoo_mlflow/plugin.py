"""What the plugin offers. MLflow is not imported until the callback is built."""

from collections.abc import Iterable

import zoo
from pydantic import Field


class MlflowOptions(zoo.Options):
    """A run in MLflow's store."""

    tracking_uri: str | None = None
    """MLflow's store: "sqlite:////data/mlflow.db", "http://server:5000"; `RUN/mlflow` when it is left out."""
    experiment: str = Field("zoo", min_length=1)
    """The experiment that the run belongs to; it is made where there is none of that name."""
    every: int = Field(50, ge=1)
    """Steps between two points of the training loss and of the learning rates."""
    artefacts: bool = True
    """Whether the recipe and the bundle are copied into MLflow's store of artefacts."""


PARTS = (
    zoo.CallbackPart(
        "mlflow",
        build="zoo_mlflow.callback:build",
        options=MlflowOptions,
        summary="parameters, metrics, tags and the bundle in MLflow, in a local store or on a server",
    ),
)


@zoo.hookimpl
def zoo_callbacks() -> Iterable[zoo.CallbackPart]:
    """Offer the callback."""
    return PARTS
