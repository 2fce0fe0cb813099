"""What MLflow takes for a key or a value, and what becomes of all else."""

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

KEY, PARAMETER, TAG = 250, 6000, 8000
"""The longest key, and the longest values of parameters and tags, in characters."""


def parameters(table: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, value) of a plain table as MLflow takes them: dotted keys, items of a list of tables from 0.

    Other lists become JSON.
    """
    if isinstance(table, Mapping):
        for name, value in table.items():
            yield from parameters(value, f"{key}.{name}" if key else str(name))
    elif isinstance(table, list) and table and all(isinstance(item, Mapping) for item in table):
        for place, item in enumerate(table):
            yield from parameters(item, f"{key}.{place}")
    else:
        text = table if isinstance(table, str) else json.dumps(table, ensure_ascii=False)
        yield parameter_key(key), shortened(text, PARAMETER)


def parameter_key(name: str) -> str:
    """Return a parameter's key: letters, digits, `_`, `-`, `.` and spaces, at most 250.

    Two names stay two: what is changed ends in a digest of the name.
    """
    key = re.sub(r"[^\w.\- ]", "_", name)
    return key if key == name and len(key) <= KEY else f"{key[: KEY - 9]}-{sha256(name.encode()).hexdigest()[:8]}"


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters; one that is cut ends in "…"."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
