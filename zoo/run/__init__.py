"""Runs: the steps from a recipe to artefacts, the run folder, and what is done with a finished run."""

from zoo.run.finetuning import finetune
from zoo.run.launching import Result

__all__ = ["Result", "finetune"]
