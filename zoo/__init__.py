"""zoo: fine-tune a model from a recipe, so that it cannot silently go wrong."""

__version__ = "0.1.0"
