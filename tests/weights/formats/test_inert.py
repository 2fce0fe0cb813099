"""What stands in for code."""

import contextlib
import io
import pickle
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.weights import hostile
from zoo.weights.formats.inert import BROKEN, Inert, unpickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=9,
)


@settings(max_examples=30, deadline=None)
@given(PLAIN, st.integers(2, 5))
@example(b"", 2)
def test_plain_data_is_itself(content: object, protocol: int) -> None:
    assert unpickle(io.BytesIO(pickle.dumps(content, protocol)), {})[0] == content


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_whatever_is_damaged_raises_what_is_expected(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps({"a": hostile.objects(Path("x")), "b": [1, "two", 3.0]}, 4))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BROKEN):
        unpickle(io.BytesIO(bytes(whole)), {})
    assert not Path("x").exists()


def test_a_name_stands_for_what_it_was_given() -> None:
    named: dict[str, type] = {}
    made, _ = unpickle(io.BytesIO(pickle.dumps(hostile.Reduce(eval, "1"))), named)
    assert isinstance(made, Inert)
    assert (made.asked, made.args) == ("builtins.eval", ("1",))
    assert list(named) == ["builtins.eval"]


def test_the_registry_of_extensions_is_not_asked() -> None:
    with pytest.raises(pickle.UnpicklingError, match="it refers to the registry of extensions"):
        unpickle(io.BytesIO(b"\x80\x02\x82\x01."), {})
