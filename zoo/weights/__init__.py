"""Weights: where their bytes are, how they are read, and the ledger that accounts for every one of them."""

from zoo.weights.convert import Converted, convert
from zoo.weights.ledger import Entry, Ledger
from zoo.weights.load import load, load_into, plan
from zoo.weights.reading import read_tensors

__all__ = ["Converted", "Entry", "Ledger", "convert", "load", "load_into", "plan", "read_tensors"]
