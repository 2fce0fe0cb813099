"""Pickles that do harm when they are unpickled, each by another way; the harm is a file that appears."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Reduce:
    """Has something called when it is unpickled."""

    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.args


class Restores:
    """Does harm when it takes its state back."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["path"]).touch()


class FromItems(list[Any]):
    """Does harm when something is put into it."""

    def append(self, item: Any) -> None:
        Path(item).touch()

    def extend(self, items: Any) -> None:
        Path(next(iter(items))).touch()


def _with_items(path: str) -> FromItems:
    made = FromItems()
    list.append(made, path)
    return made


def objects(canary: Path) -> dict[str, Any]:
    """Return objects that would make `canary` appear, by the way they do it, and the name each asks for."""
    import os

    path = str(canary)
    code = f"open({path!r}, 'w').close()"
    return {
        "posix.system": Reduce(os.system, f"touch {path}"),
        "builtins.eval": Reduce(eval, code),
        "builtins.exec": Reduce(exec, code),
        "builtins.getattr": Reduce(getattr, canary, "touch"),
        "pathlib.PosixPath": {"deep": [({"er": Reduce(Path.touch, canary)},)]},
        "tests.weights.hostile.Restores": Restores(path),
        "tests.weights.hostile.FromItems": _with_items(path),
    }


def streams(canary: Path) -> dict[str, bytes]:
    """Return pickles written by hand, in opcodes that Python itself no longer writes."""
    command = f"touch {canary}".encode()
    text = b"X" + len(command).to_bytes(4, "little") + command
    return {
        "INST": b"(S'" + command + b"'\niposix\nsystem\n.",
        "OBJ": b"(cposix\nsystem\n" + text + b"o.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + text + b"\x85R.",
        "memoised": b"\x80\x04\x8c\x06system\x94\x8c\x05posixh\x00\x93" + text + b"\x85R.",
        "NEWOBJ": b"\x80\x02cposix\nsystem\n" + text + b"\x85\x81.",
        "BUILD": b"\x80\x02ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__cposix\nsystem\nsb"
        + text
        + b"b.",
        "class": b"\x80\x02ccollections\nOrderedDict\nN}X\x0b\x00\x00\x00__setitem__cposix\nsystem\ns\x86b.",
        "setattr": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x08\x00\x00\x00__code__cposix\nsystem\ns\x86b.",
    }


def save(content: Any, path: Path, kind: str) -> Path:
    """Write `content` as torch's "zip" or "legacy" file, or a "plain" pickle."""
    if kind == "plain":
        path.write_bytes(pickle.dumps(content, 4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path
