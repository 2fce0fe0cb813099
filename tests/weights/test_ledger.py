"""The ledger's figures and texts."""

import json

from hypothesis import given
from hypothesis import strategies as st

from zoo.weights.ledger import Entry, Ledger, percent

LEDGER = Ledger(
    (
        Entry("conv.weight", "conv.weight", "loaded", "", 96, "backbone"),
        Entry("module.bn.weight", "bn.weight", "renamed", "wrapper segments", 3, "backbone"),
        Entry(None, "bn.num_batches_tracked", "allowed-missing", "files from before", 1, "backbone"),
        Entry("fc.weight", None, "dropped", 'head = "reset"', 40, "head"),
        Entry(None, "fc.weight", "initialised", 'head = "reset"', 20, "head"),
    ),
    file="x.pth",
    sha256="ab" * 32,
    origin="file x.pth",
)


def test_coverage_is_the_backbones_in_elements() -> None:
    assert (LEDGER.covered, LEDGER.total, LEDGER.coverage) == (99, 100, 0.99)
    assert Ledger((), "x", "", "").coverage == 0.0


def test_the_table_says_what_became_of_everything() -> None:
    assert LEDGER.table() == (
        "weights      x.pth, file x.pth, sha256 abababababab\n"
        "loaded       2 tensors, 99 elements; backbone 99 of 100 elements, 99.00 %\n"
        "renamed      1 by wrapper segments\n"
        'dropped      1 (fc.weight): head = "reset"\n'
        'initialised  1 (fc.weight): head = "reset"\n'
        "may miss     1 (bn.num_batches_tracked): files from before"
    )


def test_all_of_it_is_a_line_an_entry() -> None:
    assert LEDGER.table(verbose=True) == (
        f"{LEDGER.table()}\n"
        "stage        conv: 1 of 1 tensors, 96 of 96 elements\n"
        "stage        bn: 1 of 2 tensors, 3 of 4 elements\n"
        "loaded       conv.weight (96)\n"
        "renamed      module.bn.weight → bn.weight (3): wrapper segments\n"
        "may miss     bn.num_batches_tracked (1): files from before\n"
        'dropped      fc.weight (40): head = "reset"\n'
        'initialised  fc.weight (20): head = "reset"'
    )


def test_json_holds_every_entry() -> None:
    data = json.loads(LEDGER.to_json())
    assert data == json.loads(json.dumps(LEDGER.as_dict()))
    assert data["coverage"] == 0.99
    assert data["entries"][1] == {
        "source": "module.bn.weight",
        "target": "bn.weight",
        "status": "renamed",
        "reason": "wrapper segments",
        "elements": 3,
        "part": "backbone",
    }


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_only_all_is_100_percent(part: int, more: int) -> None:
    assert percent(part + more, part + more) == "100 %"
    assert not percent(part, part + more).startswith("100")
