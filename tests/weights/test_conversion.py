"""Converting what asks for code, without running any."""

import argparse
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.weights import hostile
from zoo.errors import WeightsError
from zoo.weights import convert, read_tensors

Tensors = dict[str, Tensor]
KINDS = ("zip", "legacy", "plain")


def _same(left: Any, right: Any) -> bool:
    return set(left) == set(right) and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_tensors_are_written_and_the_rest_recorded(kind: str, tensors: Tensors, tmp_path: Path) -> None:
    content = {"state_dict": tensors, "args": argparse.Namespace(lr=1), "epoch": 3, "arch": "tiny", "log": [1, 2]}
    source = hostile.save(content, tmp_path / "x.pth", kind)
    done = convert(source, tmp_path / "out")
    assert _same(load_file(tmp_path / "out.safetensors"), tensors)
    assert _same(read_tensors(done.weights, done.weights_sha256), tensors)
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "source": "x.pth",
        "source_sha256": sha256(source.read_bytes()).hexdigest(),
        "weights": "out.safetensors",
        "weights_sha256": sha256((tmp_path / "out.safetensors").read_bytes()).hexdigest(),
        "record": "out.json",
        "inside": "state_dict",
        "which": None,
        "tensors": 5,
        "elements": 12 + 4 + 1 + 12 + 3,
        "kept": {"epoch": 3, "arch": "tiny"},
        "dropped": [{"key": "args", "why": "asks for argparse.Namespace"}, {"key": "log", "why": "a list"}],
        "named": ["argparse.Namespace"],
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [*hostile.objects(Path("x"))])
def test_nothing_hostile_is_run(way: str, kind: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    state: Tensors | dict[str, Any] = {"a": torch.ones(2)} if kind != "plain" else {"a": np.ones(2)}
    content = {"state_dict": state, "bad": hostile.objects(canary)[way]}
    source = hostile.save(content, tmp_path / "x.pth", kind)
    with pytest.raises(WeightsError) as caught:
        read_tensors(source)
    assert way in str(caught.value).splitlines()[0]
    done = convert(source, tmp_path / "out.safetensors")
    assert way in done.named
    assert [item.key for item in done.dropped] == ["bad"]
    assert load_file(done.weights)["a"].sum() == 2
    assert not canary.exists()


@pytest.mark.parametrize("way", [*hostile.streams(Path("x"))])
def test_no_opcode_runs_anything(way: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    source = tmp_path / "x.pkl"
    source.write_bytes(hostile.streams(canary)[way])
    for attempt in (read_tensors, lambda path: convert(path, tmp_path / "out")):
        with pytest.raises(WeightsError):
            attempt(source)
    assert not canary.exists()
    # What a file did to its own stand-ins is gone with it.
    torch.save({"a": torch.ones(2)}, tmp_path / "y.pth")
    convert(tmp_path / "y.pth", tmp_path / "y")


class Net(nn.Module):
    """A model whose class only this file knows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.norms = nn.ModuleList([nn.BatchNorm1d(2)])
        self.register_buffer("passing", torch.ones(1), persistent=False)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("inside", ["", "model"])
def test_a_module_saved_whole_gives_its_state(kind: str, inside: str, tmp_path: Path) -> None:
    model = Net()
    source = hostile.save({inside: model, "epoch": 1} if inside else model, tmp_path / "x.pt", kind)
    done = convert(source, tmp_path / "out")
    assert _same(load_file(done.weights), model.state_dict())
    assert done.inside == inside


def test_arrays_of_numpy_become_tensors(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "c": np.arange(3, dtype=">i2"),
    }
    source = hostile.save({"model": arrays, "__author__": "a"}, tmp_path / "x.pkl", "plain")
    with pytest.raises(WeightsError, match=r"asks for code to be run: numpy"):
        read_tensors(source)
    written = load_file(convert(source, tmp_path / "out").weights)
    assert all(
        torch.equal(written[key], torch.from_numpy(arrays[key].astype("=f8")).to(written[key])) for key in arrays
    )
    assert written["c"].dtype == torch.int16


def test_views_and_shared_tensors_are_written_as_they_are(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    state = {"a": base[2:8].view(2, 3).T, "b": base, "c": base, "half": base.to(torch.bfloat16), "none": base[:0]}
    torch.save({"s": state, "x": argparse.Namespace()}, tmp_path / "x.pth")
    assert _same(load_file(convert(tmp_path / "x.pth", tmp_path / "out").weights), state)


def test_the_choice_is_explicit_here_too(tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(2)}
    torch.save({"model": state, "ema": {"a.weight": torch.zeros(2)}}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="holds several sets of weights: model, ema"):
        convert(tmp_path / "x.pth", tmp_path / "out")
    done = convert(tmp_path / "x.pth", tmp_path / "out", "ema")
    assert load_file(done.weights)["a.weight"].sum() == 0
    assert [(item.key, item.why) for item in done.dropped] == [("model", "a dict")]


def test_nothing_is_overwritten_or_left_half(tensors: Tensors, tmp_path: Path) -> None:
    torch.save(tensors, tmp_path / "x.pth")
    (tmp_path / "out.json").write_text("{}")
    with pytest.raises(WeightsError) as caught:
        convert(tmp_path / "x.pth", tmp_path / "out")
    assert str(caught.value) == f"{tmp_path / 'out.json'} is there already\n  mend:  name another, or move it away"
    with pytest.raises(WeightsError, match=r"out\.pth is no name of a safetensors file\n  mend:  out\.safetensors"):
        convert(tmp_path / "x.pth", tmp_path / "out.pth")
    with pytest.raises(WeightsError, match="there is no folder"):
        convert(tmp_path / "x.pth", tmp_path / "no" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "x.pth"]


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("eighth", range(1, 8))
def test_a_truncated_file_is_not_converted(kind: str, eighth: int, tensors: Tensors, tmp_path: Path) -> None:
    source = hostile.save({"s": tensors, "x": argparse.Namespace()}, tmp_path / "x.pth", kind)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * eighth // 8])
    with pytest.raises(WeightsError, match=r"x\.pth cannot be read: "):
        convert(source, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_odd_values_beside_the_weights_do_no_harm(tmp_path: Path) -> None:
    beside = {"a": float("nan"), "b": 10**5000, "c": "\ud800", "d": "x" * 9000, "e": None, "f": True, "g": 0.5}
    source = hostile.save({"model": {"w": np.ones(2)}, **beside}, tmp_path / "x.pkl", "plain")
    done = convert(source, tmp_path / "out")
    assert json.loads(done.record.read_text())["kept"] == {"c": "\ud800", "e": None, "f": True, "g": 0.5}
    assert [item.key for item in done.dropped] == ["a", "b", "d"]


def test_what_safetensors_cannot_hold_is_refused(tmp_path: Path) -> None:
    source = hostile.save({"\ud800": np.ones(2)}, tmp_path / "x.pkl", "plain")
    with pytest.raises(WeightsError, match=r"x\.pkl cannot be written as safetensors: "):
        convert(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]
