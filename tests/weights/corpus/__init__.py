"""Mutated checkpoints, each with what must come of it: exactly these tensors, or a refusal for this reason.

What must come of a file is computed from the values it was made of, never by zoo's loader. Out of scope, since nothing
in the file tells it: another network with the same names and shapes, and tensors of one shape that changed names.
"""

from tests.weights.corpus import containers, damaged, heads, hostile, order, values, variants, wrapped
from tests.weights.corpus.case import CANARY, Case, Refused

__all__ = ["CANARY", "CASES", "Case", "Refused"]

CASES: tuple[Case, ...] = tuple(
    case for part in (wrapped, containers, damaged, variants, order, heads, values, hostile) for case in part.cases()
)
