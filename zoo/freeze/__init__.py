"""Freezing: a policy says which parameters train, a Plan what follows for every tensor, and `apply` makes it so."""

from zoo.freeze.plan import Plan, make_plan
from zoo.freeze.still import apply

__all__ = ["Plan", "apply", "make_plan"]
