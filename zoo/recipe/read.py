"""Read a recipe: TOML into a plain table, with the line of every key, and `--set` on top."""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from zoo.errors import Problem, RecipeError

_HEADER = re.compile(r"^\s*(\[\[?)\s*([\w.\"'-]+)\s*\]\]?")
_KEY = re.compile(r"^\s*([\w.\"'-]+)\s*=")


@dataclass(frozen=True)
class Document:
    """A recipe as written: its table, and where each key stands. `path` is None for a table made in Python."""

    table: Mapping[str, Any]
    path: Path | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """Return the place of a dotted key: `--set …`, or `file:line, key`, as near as it can be found."""
        for prefix in _prefixes(key):
            if prefix in self.sets:
                return f"--set {prefix}={self.sets[prefix]}"
        below = next((setting for setting in self.sets if setting.startswith(f"{key}.")), None)
        if below and key not in self.lines:
            return f"--set {below}={self.sets[below]}"
        place = str(self.path) if self.path else "recipe"
        line = next((self.lines[prefix] for prefix in _prefixes(key) if prefix in self.lines), None)
        return f"{place}:{line}, key {key}" if line else f"{place}, key {key}"


def _prefixes(key: str) -> list[str]:
    words = key.split(".")
    return [".".join(words[:end]) for end in range(len(words), 0, -1)]


def read_recipe(path: Path, sets: Iterable[str] = ()) -> Document:
    """Read the recipe at `path` and put `KEY=VALUE` settings on top. RecipeError: missing, unreadable or not TOML."""
    text = _read_text(path)
    try:
        table = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise RecipeError(f"not TOML: {error}", where=str(path), hint="see https://toml.io") from None
    return put_sets(Document(table, path, find_lines(text)), sets)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors put a byte-order mark
    except FileNotFoundError:
        near = ", ".join(sorted(str(found) for found in path.parent.glob("*.toml"))[:8])
        raise RecipeError(f"there is no recipe {str(path)!r}", hint=f"here are {near}" if near else "") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {str(path)!r}: {error}") from None


def find_lines(text: str) -> dict[str, int]:
    """Return {dotted key: line number} for the tables and keys of a TOML text, list items counted from 0.

    A line inside a multi-line string may pass for a key: line numbers are help for a reader, nothing hangs on them.
    """
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _plain(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}.{counts[table]}"
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(f"{table}.{_plain(key[1])}".lstrip("."), number)
    return lines


def _plain(key: str) -> str:
    return key.replace('"', "").replace("'", "")


def put_sets(document: Document, sets: Iterable[str]) -> Document:
    """Return the document with each `a.b=VALUE` put in: split at the first `=`, VALUE as TOML, else as a string."""
    table = deepcopy(dict(document.table))
    done: dict[str, str] = dict(document.sets)
    problems: list[Problem] = []
    for setting in sets:
        key, equals, value = (word.strip() for word in setting.partition("="))
        problem = _put(table, key, parse_value(value)) if equals and key else "there is no `=` with a key before it"
        if problem:
            problems.append(Problem(problem, f"--set {setting}", "write --set table.key=VALUE"))
        done[key] = value
    if problems:
        raise RecipeError.of(problems)
    return Document(table, document.path, document.lines, done)


def parse_value(text: str) -> Any:
    """Return a TOML value, or the text itself when it is none."""
    try:
        parsed = tomli.loads(f"value = {text}")
    except tomli.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _put(table: dict[str, Any], key: str, value: Any) -> str:
    """Set a dotted key; return what is wrong with it, or an empty string."""
    *parents, last = key.split(".")
    here: Any = table
    for name in parents:
        here = _step(here, name)
        if here is None:
            return f"{key!r} leads into {name!r}, which is no table"
    if isinstance(here, list):
        if not last.isdecimal() or int(last) >= len(here):
            return f"{key!r}: there is no item {last!r}"
        here[int(last)] = value
    else:
        here[last] = value
    return ""


def _step(here: Any, name: str) -> Any:
    if isinstance(here, list):
        found = here[int(name)] if name.isdecimal() and int(name) < len(here) else None
    else:
        found = here.setdefault(name, {})
    return found if isinstance(found, dict | list) else None
