"""Write docs/hooks/: a page for each hook, from the hookspecs, the contracts and the conformance checks.

python docs/generate_hooks.py
"""

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

from zoo.recipe import schema
from zoo.registry import contracts, events, kinds, load_registry, parts
from zoo.registry.hookspecs import PartHooks, RunEvents
from zoo.testing.cases import checks_of

FOLDER = Path(__file__).parent / "hooks"
CONTRACTS: dict[str, tuple[Any, ...]] = {
    "backbone": (
        *(contracts.Backbone, contracts.FeatureSpec, contracts.Native, contracts.InputSpec, contracts.Depths),
    ),
    "head": (contracts.Head, contracts.FeatureSpec, contracts.TargetSpec),
    "weights": (contracts.WeightsRequest, contracts.WeightsFile),
    "data": (contracts.DataSource, contracts.Split),
    "freeze": (contracts.Layout, contracts.Adapter),
    "device": (contracts.DeviceSettings, contracts.Strategy),
    "export": (contracts.Exporter, contracts.Exportable, contracts.Described),
    "callback": (),
}
PARTS = {cls.kind.name: cls for cls in parts.Part.__subclasses__()}
CALLED = {
    "weights": "weights source",
    "data": "data source",
    "freeze": "freeze policy",
    "device": "device strategy",
    "export": "exporter",
}
"""What parts of a kind are called, where that is not the kind's own name."""
REPEATED = [kind for kind in kinds.KINDS if kind.many and kind is not kinds.HEAD]


def page(kind: kinds.Kind) -> str:
    """Return the page of a kind, as Markdown."""
    return "\n".join([*_head(kind), *_builder(kind), *_contracts(kind), *_events(kind), *_checks(kind), *_own(kind)])


def _head(kind: kinds.Kind) -> Iterator[str]:
    first, _, example = (inspect.getdoc(getattr(PartHooks, kind.hook)) or "").partition("\n")
    table = f"[[{kind.name}]]" if kind in REPEATED else f"[{kind.name}]"
    yield f"# {kind.hook}\n"
    yield f"{first} A recipe names the part in `{table}`. This page is made by `docs/generate_hooks.py`.\n"
    yield f"```python\n{example.strip()}\n```\n"


def _builder(kind: kinds.Kind) -> Iterator[str]:
    part = PARTS[kind.name]
    yield f"## {part.__name__}\n"
    yield f"{inspect.getdoc(part)}\n"
    yield f"{(inspect.getdoc(parts.Part) or '').partition(chr(10))[2].strip()}\n"
    common = schema.COMMON[kind.name].model_fields
    if common:
        yield f"Beside its own options every `[{kind.name}]` takes these keys, which options may not be named like:\n"
        yield from _table(("key", ""), [(f"`{name}`", field.description or "") for name, field in common.items()])


def _contracts(kind: kinds.Kind) -> Iterator[str]:
    for cls in CONTRACTS[kind.name]:
        yield f"## {cls.__name__}\n"
        yield f"{inspect.getdoc(cls)}\n"
        yield f"```python\n{_code(cls)}\n```\n"


def _code(cls: Any) -> str:
    """Return a class's fields and methods, as one would write them."""
    lines = [f"{name}: {_plain(annotation)}{_default(cls, name)}" for name, annotation in _annotations(cls).items()]
    for name, method in vars(cls).items():
        if inspect.isfunction(method) and (not name.startswith("_") or name in ("__call__", "__len__")):
            if is_dataclass(cls) and name.startswith("__"):
                continue
            said = (inspect.getdoc(method) or "").replace("\n", "\n    ")
            lines.append(f'\ndef {name}{_plain(inspect.signature(method))}:\n    """{said}"""')
        if isinstance(method, property):
            said = inspect.getdoc(method) or ""
            lines.append(f'\n@property\ndef {name}{_plain(inspect.signature(method.fget))}:\n    """{said}"""')
    return "\n".join(line.rstrip() for line in "\n".join(lines).strip().splitlines())


def _annotations(cls: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found |= {name: value for name, value in vars(base).get("__annotations__", {}).items() if name[0] != "_"}
    return found


def _default(cls: Any, name: str) -> str:
    if not is_dataclass(cls):
        return ""
    field = next(field for field in fields(cls) if field.name == name)
    if field.default_factory is not MISSING:
        return " = {}"
    return "" if field.default is MISSING else f" = {field.default!r}"


def _plain(value: Any) -> str:
    """Return an annotation or a signature without modules and quotes."""
    text = value.__name__ if isinstance(value, type) and not hasattr(value, "__args__") else str(value)
    for noise in (
        "collections.abc.",
        "zoo.registry.contracts.",
        "zoo.registry.parts.",
        "zoo.registry.events.",
        "pathlib.",
    ):
        text = text.replace(noise, "")
    return text.replace("typing.", "").replace("contextlib.", "").replace("'", "").replace("ForwardRef", "")


def _events(kind: kinds.Kind) -> Iterator[str]:
    if kind is not kinds.CALLBACK:
        return
    yield "## The events of a run\n"
    yield "Methods of these names, marked `@zoo.hookimpl`, with these arguments.\n"
    for name, event in vars(RunEvents).items():
        if name.startswith("_"):
            continue
        yield f"### {name}\n"
        yield f"{inspect.getdoc(event)}\n"
        yield f"```python\ndef {name}{_plain(inspect.signature(event))}: ...\n```\n"
    for cls in (
        value for value in vars(events).values() if is_dataclass(value) and value.__module__ == events.__name__
    ):
        yield f"### {cls.__name__}\n"
        yield f"{inspect.getdoc(cls)}\n"
        yield f"```python\n{_code(cls)}\n```\n"


def _checks(kind: kinds.Kind) -> Iterator[str]:
    called = CALLED.get(kind.name, kind.name)
    yield "## What is checked\n"
    yield f"`zoo.testing.check_{kind.name}(part, options)` and `zoo plugins test` hold a {called} to this:\n"
    rows = [(check.name, check.expected, check.why) for check in checks_of(kind)]
    yield from _table(("check", "what is expected", "because"), rows)


def _own(kind: kinds.Kind) -> Iterator[str]:
    yield "## zoo's own\n"
    rows = [(f"`{owned.part.name}`", owned.part.summary) for owned in load_registry(candidates=()).parts(kind)]
    yield from _table(("name", ""), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(dedent(cell).replace(chr(10), ' ').replace('|', '&#124;') for cell in row)} |"
    yield ""


def pages() -> dict[Path, str]:
    """Return every page by its path."""
    return {FOLDER / f"{kind.name}.md": page(kind).rstrip() + "\n" for kind in kinds.KINDS}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
