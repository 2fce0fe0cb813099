"""Checkpoints in several files."""

import json
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from zoo.errors import WeightsError
from zoo.weights.reading import read_checkpoint, read_tensors

MEND = "\n  mend:  the index and the shards are not of one set, or a download is incomplete: get all of them again"
SHARDS = {
    "model-00001-of-00002.safetensors": {"a": torch.ones(2), "c": torch.full((1,), 3.0)},
    "model-00002-of-00002.safetensors": {"b": torch.zeros(3)},
}
MAP = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
MAP["c"] = MAP["a"]


def _index(folder: Path, weight_map: Any = None) -> Path:
    for name, state in SHARDS.items():
        save_file(state, folder / name)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 24}, "weight_map": weight_map or MAP}))
    return path


def _refusal(path: Path, sha: str | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        read_tensors(path, sha)
    return str(caught.value)


def test_a_set_is_read_as_one(tmp_path: Path) -> None:
    read = read_checkpoint(_index(tmp_path))
    assert {key: value.tolist() for key, value in read.tensors.items()} == {"a": [1, 1], "b": [0, 0, 0], "c": [3]}
    assert [path.name for path in read.files] == ["model.safetensors.index.json", *SHARDS]


def test_the_sha256_is_of_all_of_it(tmp_path: Path) -> None:
    path = _index(tmp_path)
    files = [path, *(tmp_path / name for name in SHARDS)]
    lines = "".join(sha256(file.read_bytes()).hexdigest() + "\n" for file in files)
    digest = sha256(lines.encode()).hexdigest()
    told = subprocess.run(
        f"sha256sum {' '.join(map(str, files))} | cut -c1-64 | sha256sum", shell=True, capture_output=True, check=True
    )
    assert told.stdout.decode()[:64] == digest
    assert read_checkpoint(path, digest).sha256 == digest
    save_file({"b": torch.ones(3)}, files[-1])
    assert _refusal(path, digest).startswith("model.safetensors.index.json has sha256 ")


def test_shards_of_torch_are_read_too(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "one.bin")
    path = tmp_path / "pytorch_model.bin.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "one.bin"}}))
    assert read_tensors(path)["a"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ""])
def test_a_shard_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    path = _index(tmp_path, {"a": name})
    assert _refusal(path) == (
        f"model.safetensors.index.json names a shard outside its folder: {name!r}\n  where: {path}\n"
        "  mend:  shards lie beside their index"
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"d": MAP["a"]}, "model-00001-of-00002.safetensors lacks model.safetensors.index.json says: d"),
        ({"c": MAP["b"]}, "model-00001-of-00002.safetensors has more than model.safetensors.index.json says: c"),
    ],
)
def test_a_key_elsewhere_is_refused(change: dict[str, str], what: str, tmp_path: Path) -> None:
    path = _index(tmp_path, {**MAP, **change})
    assert _refusal(path) == f"{what}\n  where: {tmp_path / 'model-00001-of-00002.safetensors'}{MEND}"


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    path = _index(tmp_path)
    (tmp_path / MAP["b"]).unlink()
    assert _refusal(path) == (
        "model.safetensors.index.json names 2 shards, 1 of them not there: model-00002-of-00002.safetensors\n"
        f"  where: {tmp_path}{MEND}"
    )


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "[" * 100_000])
def test_what_is_no_index_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.index.json"
    path.write_text(content)
    assert _refusal(path).startswith("x.index.json cannot be read: it ")


def test_a_shard_that_changes_is_noticed(tmp_path: Path) -> None:
    read = read_checkpoint(_index(tmp_path))
    save_file({"b": torch.ones(4)}, tmp_path / MAP["b"])
    with pytest.raises(WeightsError, match=r"model-00002-of-00002\.safetensors changed while it was read"):
        read.require_unchanged()
