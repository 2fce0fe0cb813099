"""Export: write a trained model as an artefact, read it back, and compare it with the eager model."""

from zoo.export.verify import export_verified

__all__ = ["export_verified"]
