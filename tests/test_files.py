import hashlib
import os

import pytest

from zoo.files import new_folder, sha256, write_text


def test_text_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_write_leaves_the_old_text(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "deep" / "folder"
    for text in ("one", "two"):
        with new_folder(path) as draft:
            (draft / text).write_text(text)
            assert draft.parent == path.parent
    assert os.listdir(path) == ["two"]
    assert os.listdir(path.parent) == ["folder"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "folder"
    with new_folder(path) as draft:
        (draft / "kept").write_text("")
    with pytest.raises(KeyError), new_folder(path) as draft:
        (draft / "half").write_text("")
        raise KeyError
    assert os.listdir(path) == ["kept"]
    assert os.listdir(tmp_path) == ["folder"]


def test_sha256_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_001)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
