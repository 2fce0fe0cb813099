"""Digests of large files, remembered while nothing says that the bytes changed."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.weights import digests


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The files whose bytes are hashed; every file is large, and settled at once, and the cache is this test's."""
    seen: list[Path] = []

    def sha256(path: Path) -> str:
        seen.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(digests, "sha256", sha256)
    monkeypatch.setattr(digests, "LARGE", 0)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    monkeypatch.setattr(digests, "cache_folder", lambda: tmp_path / "cache")
    return seen


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A file."""
    file = tmp_path / "x"
    file.write_bytes(b"one")
    return file


def _of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_large_file_is_hashed_once(hashed: list[Path], path: Path) -> None:
    assert [digests.digest_of(path), digests.digest_of(path)] == [_of(b"one")] * 2
    assert hashed == [path]


def test_other_bytes_of_the_same_size_and_time_are_hashed(hashed: list[Path], path: Path) -> None:
    before = path.stat()
    digests.digest_of(path)
    time.sleep(0.05)
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert digests.digest_of(path) == _of(b"two")


def test_a_file_put_in_its_place_is_hashed(hashed: list[Path], path: Path, tmp_path: Path) -> None:
    digests.digest_of(path)
    (tmp_path / "y").write_bytes(b"two")
    (tmp_path / "y").replace(path)
    assert digests.digest_of(path) == _of(b"two")


def test_small_files_and_fresh_ones_are_always_hashed(
    hashed: list[Path], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE", 4)
    digests.digest_of(path)
    monkeypatch.setattr(digests, "LARGE", 0)
    monkeypatch.setattr(digests, "SETTLED", 60.0)
    digests.digest_of(path)
    digests.digest_of(path)
    assert hashed == [path] * 3


@pytest.mark.parametrize("note", ["", "[]", '{"a": 1}'])
def test_a_damaged_note_is_as_none(note: str, hashed: list[Path], path: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "digests.json").write_text(note)
    assert digests.digest_of(path) == _of(b"one")


def test_the_oldest_are_forgotten(
    hashed: list[Path], path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MOST", 1)
    (tmp_path / "y").write_bytes(b"two")
    for file in (path, tmp_path / "y", path):
        digests.digest_of(file)
    assert hashed == [path, tmp_path / "y", path]


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    hashed: list[Path], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "cache_folder", lambda: path / "not-a-folder")
    assert [digests.digest_of(path), digests.digest_of(path)] == [_of(b"one")] * 2
    assert hashed == [path, path]
