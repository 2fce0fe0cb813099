"""Recipes: what a run does, read from TOML and checked whole. Light: importing this never imports torch."""

from zoo.recipe.read import Document, read_recipe
from zoo.recipe.recipe import Chosen, Recipe
from zoo.recipe.resolve import load_recipe, resolve

__all__ = ["Chosen", "Document", "Recipe", "load_recipe", "read_recipe", "resolve"]
