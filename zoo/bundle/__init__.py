"""Bundles: a model with its preprocessing, class names and golden images, in formats that run without zoo."""

from zoo.bundle.folder import Bundle, opened
from zoo.bundle.predictor import Prediction, Predictor
from zoo.bundle.replay import Outcome, replay

__all__ = ["Bundle", "Outcome", "Prediction", "Predictor", "opened", "replay"]
