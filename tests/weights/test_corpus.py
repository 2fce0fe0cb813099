"""Every file of the corpus loads to exactly the right tensors, or is refused for the right reason; no code is run."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from tests.weights.corpus import CANARY, CASES, Case, Refused
from tests.weights.corpus.damaged import flip, sound_files
from tests.weights.corpus.models import State, born, fresh, trained
from tests.weights.corpus.variants import SAME, proof
from zoo.errors import WeightsError
from zoo.registry.contracts import WeightsFile
from zoo.weights import load

KINDS = {
    *("wrapper", "wrapper within", "real wrapper", "into a wrapped model", "names of its own", "rename rules"),
    *("container", "nested container", "several sets, one chosen", "several sets, none chosen"),
    *(
        "branches, one chosen",
        "branches, none chosen",
        "foreign names",
        "wrong variant",
        "another size",
        "order",
        "head",
    ),
    *("format", "truncated", "flipped bit", "sha256", "no checkpoint", "half file", "extra branch", "shared memory"),
    *("dtype", "NaN or Inf", "constant", "hostile"),
}
FLIPS = 60


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tensors of these sizes are done before a second thread has begun."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _difference(left: State, right: State) -> list[str]:
    return [name for name in {**left, **right} if not torch.equal(left[name], right[name])]


def _require_refusal(case: Case, expected: Refused, folder: Path) -> None:
    known, model = case.write(folder), fresh(case.architecture)
    with pytest.raises(WeightsError) as caught:
        load(case.around(model), known, **case.options)
    said = str(caught.value)
    assert [
        line for line in expected.lines if not any(re.fullmatch(line, other) for other in said.splitlines())
    ] == [], said
    assert _difference(model.state_dict(), born(case.architecture)) == []


def _require_values(case: Case, expected: State, folder: Path) -> None:
    known, model = case.write(folder), fresh(case.architecture)
    ledger = load(case.around(model), known, **case.options)
    assert _difference(model.state_dict(), expected) == []
    assert sorted((flag.name, flag.why) for flag in ledger.flags) == sorted(case.flags)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.kind}: {case.name}", marks=[pytest.mark.slow] if case.slow else [])
        for case in CASES
    ],
)
def test_a_file_does_what_it_must(case: Case, tmp_path: Path) -> None:
    expected = case.expected()
    if isinstance(expected, Refused):
        _require_refusal(case, expected, tmp_path)
    else:
        _require_values(case, expected, tmp_path)
    assert not (tmp_path / CANARY).exists()


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 500
    assert len({case.architecture.partition(",")[0] for case in CASES}) >= 20
    assert {case.kind for case in CASES} == KINDS
    assert Counter((case.kind, case.name) for case in CASES).most_common(1)[0][1] == 1
    assert sum(case.kind == "wrapper" for case in CASES) == 3 + 9 + 27


def test_files_differ_from_fresh_models() -> None:
    """A loader that does nothing is wrong about every case that loads."""
    for case in CASES:
        if case.kind in ("wrapper", "container"):
            values = trained(case.architecture).items()
            moved = [not torch.equal(value, born(case.architecture)[name]) for name, value in values]
            assert all(moved) or "swin" in case.architecture


@pytest.mark.parametrize(("timm", "torchvision"), [pair[:2] for pair in SAME])
def test_the_truth_of_foreign_names_gives_equal_logits(timm: str, torchvision: str) -> None:
    for source, target in ((timm, torchvision), (torchvision, timm)):
        there, here = proof(source, target)
        torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-6)


def _flip_bits(name: str, folder: Path, known: bool) -> Iterator[list[str] | None]:
    """Yield for each of many flipped bits the tensors that the model then has otherwise, None when it was refused."""
    path, chance = sound_files("own", folder)[name], random.Random(name)
    content, values = path.read_bytes(), trained("own")
    digest = sha256(content).hexdigest() if known else None
    for _ in range(FLIPS):
        path.write_bytes(flip(content, chance.randrange(len(content)), chance.randrange(8)))
        model = fresh("own")
        try:
            load(model, WeightsFile(path, "the corpus", digest))
        except WeightsError:
            assert _difference(model.state_dict(), born("own")) == []
            yield None
        else:
            yield _difference(model.state_dict(), values)


@pytest.mark.parametrize("name", ["zip", "packed zip", "npz", "older format", "safetensors"])
def test_no_flipped_bit_gets_past_the_sha256(name: str, tmp_path: Path) -> None:
    assert set(map(str, _flip_bits(name, tmp_path, True))) == {"None"}


@pytest.mark.parametrize("name", ["zip", "packed zip", "npz"])
def test_a_flipped_bit_in_an_archive_is_refused_or_no_number(name: str, tmp_path: Path) -> None:
    assert not any(_flip_bits(name, tmp_path, False))


@pytest.mark.parametrize("name", ["older format", "safetensors"])
def test_a_flipped_bit_breaks_no_reader(name: str, tmp_path: Path) -> None:
    """These have no checksums: what is not refused may be wrong, and only the sha256 can tell."""
    assert None in list(_flip_bits(name, tmp_path, False))
