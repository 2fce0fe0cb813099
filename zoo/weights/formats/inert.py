"""Read a pickle into plain data: nothing that it names is imported, and nothing that it asks for is called.

`pickle` runs code because a pickle names functions and classes, has them called, and has objects restore themselves.
Here every name becomes a stand-in class, made for this one file, which remembers what it was given. No other callable
can be reached: attributes are never looked up by a name from the file, and each stand-in takes its state by a method of
its own, so the file cannot change one either.
"""

import pickle
import pickletools
import struct
from dataclasses import dataclass
from typing import IO, Any

NUMPY = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")


class Inert:
    """Something that only code could make: the name it was asked for by, and what it was given.

    `state` is what it would restore itself from, `contents` what would be put into it by key.
    """

    asked = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make one, or what a subclass knows how to make of `args`."""
        made = super().__new__(cls)
        made.args, made.state, made.contents = args, None, {}
        return made

    args: tuple[Any, ...]
    state: Any
    contents: dict[Any, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *args: Any, **kwargs: Any) -> "Inert":
        """Stand for what calling it would give."""
        made = type(self)(*args, **kwargs)
        return made if isinstance(made, Inert) else self

    def __setitem__(self, key: Any, value: Any) -> None:
        self.contents[key] = value

    def append(self, item: Any) -> None:
        """Take an item of what would be a list or a set; nothing comes of it."""

    add = extend = append


class Items(dict[Any, Any]):
    """What an ordered or a defaulting dictionary holds; its attributes are left out."""

    asked = ""

    def __init__(self, *args: Any) -> None:
        super().__init__(args[0] if args and isinstance(args[0], list) else ())

    def __setstate__(self, state: Any) -> None:
        pass


@dataclass(frozen=True)
class Stored:
    """A storage by its key: what kind of numbers it holds and how many are said to be there."""

    kind: str
    key: str
    numel: int

    def __setstate__(self, state: Any) -> None:
        pass


@dataclass(frozen=True)
class Pending:
    """A tensor that is described and not yet made; `kind` names a storage's or a dtype's class in torch."""

    storage: Stored
    kind: str
    offset: Any
    size: Any
    stride: Any

    def __setstate__(self, state: Any) -> None:
        pass


class _Tensor(Inert):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) < 4 or not isinstance(args[0], Stored):
            return super().__new__(cls, *args)
        # The third of torch's rebuilders has the dtype after (storage, offset, size, stride, requires_grad, hooks).
        typed = args[6] if cls.asked.endswith("_v3") and len(args) > 6 else None
        return Pending(args[0], _asked(typed) or args[0].kind, *args[1:4])


class _First(Inert):
    """What is made of its first argument, and holds the same."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return args[0] if args else super().__new__(cls)


class _Bytes(Inert):
    """Bytes, which older pickles write as text that is to be encoded, and empty ones as `bytes()`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls.asked == "builtins.bytes" and not args:
            return b""
        plain = args and isinstance(args[0], str) and args[1:] in ((), ("latin1",))
        return args[0].encode("latin1") if plain else super().__new__(cls, *args)


class Array(Inert):
    """A numpy array: its state is (version, shape, dtype, Fortran order, bytes)."""


_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # of Python 2, which torch.save still writes
_STAND_INS: dict[str, type] = {
    **dict.fromkeys(("collections.OrderedDict", "collections.defaultdict", "builtins.dict"), Items),
    **dict.fromkeys((f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")), _Tensor),
    **dict.fromkeys(("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"), _First),
    **dict.fromkeys(("torch.Size", "builtins.set"), _First),
    **dict.fromkeys(NUMPY, Array),
    **dict.fromkeys(("_codecs.encode", "builtins.bytes"), _Bytes),
}


class Unpickler(pickle.Unpickler):
    """Reads one pickle of a stream; `named` takes every name that is asked for, `stored` the storages."""

    def __init__(self, stream: IO[bytes], named: dict[str, type]) -> None:
        super().__init__(stream, encoding="latin1")
        self.named = named
        self.stored: dict[str, Stored] = {}

    def find_class(self, module: str, name: str) -> type:
        """Return the stand-in for a name; nothing is imported."""
        asked = f"{_RENAMED.get(module, module)}.{name}"
        if asked not in self.named:
            self.named[asked] = type("StandIn", (_STAND_INS.get(asked, Inert),), {"asked": asked})
        return self.named[asked]

    def persistent_load(self, pid: Any) -> Any:
        """Return the storage that ("storage", kind, key, location, numel, …) is; the location does not matter.

        The older format writes ("module", class, …) for a module's class, with its source code: the class is returned.
        """
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":
            return pid[1]
        word, kind, key, _, numel = pid[:5] if isinstance(pid, tuple) and len(pid) > 4 else (None,) * 5
        view = pid[5] if isinstance(pid, tuple) and len(pid) > 5 else None
        if word != "storage" or view is not None or not isinstance(numel, int):
            raise pickle.UnpicklingError("it refers to something that is no storage")
        return self.stored.setdefault(str(key), Stored(_asked(kind), str(key), numel))


def unpickle(stream: IO[bytes], named: dict[str, type]) -> tuple[Any, Unpickler]:
    """Return what the next pickle of a seekable stream holds, as plain data, and the reader with the storages it met.

    `named` takes the names that the pickle asks for, also when it breaks off. What is wrong with a damaged pickle
    raises whatever `pickle` raises: see `BROKEN`.
    """
    begins = stream.tell()
    # A number of the extension registry stands for an object that the process may already hold.
    if any(code.name.startswith("EXT") for code, _, _ in pickletools.genops(stream)):
        raise pickle.UnpicklingError("it refers to the registry of extensions")
    stream.seek(begins)
    reader = Unpickler(stream, named)
    return reader.load(), reader


BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    AssertionError,
    RuntimeError,
    OSError,
    struct.error,
)
"""A damaged stream fails wherever the next byte leads it."""


def _asked(found: Any) -> str:
    """Return the name that a stand-in was made for, or "" of anything else."""
    return str(found.asked) if isinstance(found, type) and issubclass(found, Inert) else ""
