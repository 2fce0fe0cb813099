"""The cache of downloads: whole or not there, and shared by processes."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fileserver import FileServer, files
from zoo.errors import WeightsError
from zoo.weights.cache import Cached, fetched, locked, part_of

__all__ = ["files"]  # the fixture

BODY = b"tensors" * 1000
DIGEST = sha256(BODY).hexdigest()
FETCH = """
import sys
from functools import partial
from pathlib import Path
from zoo.weights.cache import fetched
from zoo.weights.download import download
cache, url, digest = sys.argv[1:]
print(fetched(Path(cache), "x.pth", digest, partial(download, url)).path)
"""


class Source:
    """A download that counts how often it is asked and writes `bodies` in turn, after what is there already."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)
        self.asked = 0

    def __call__(self, part: Path) -> None:
        self.asked += 1
        with part.open("ab") as file:
            file.write(self.bodies.pop(0))


@settings(max_examples=20, deadline=None)
@given(body=st.binary(max_size=200), length=st.sampled_from([8, 10, 64]))
def test_what_is_fetched_is_what_was_sent(body: bytes, length: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache, digest = tmp_path_factory.mktemp("cache"), sha256(body).hexdigest()
    source = Source(body)
    for _ in range(2):
        found = fetched(cache, "x.pth", digest[:length], source)
        assert found == Cached(cache / "downloads" / digest[:length] / "x.pth", digest)
        assert found.path.read_bytes() == body
    assert source.asked == 1
    assert not part_of(found.path).exists()


def test_wrong_bytes_are_removed_and_both_digests_named(tmp_path: Path) -> None:
    other = sha256(b"other").hexdigest()
    with pytest.raises(WeightsError) as caught:
        fetched(tmp_path, "x.pth", DIGEST, Source(b"other"))
    assert str(caught.value) == (
        f"x.pth came with sha256 {other}, not {DIGEST}: removed\n"
        "  mend:  they were another file's, or the file was replaced: check the address and the sha256"
    )
    with pytest.raises(WeightsError) as caught:
        fetched(tmp_path, "x.pth", DIGEST[:8], Source(b"other"))
    assert str(caught.value).splitlines()[0] == (
        f"x.pth came with sha256 {other}, not one that begins with {DIGEST[:8]}: removed"
    )
    assert not list(tmp_path.rglob("x.pth*.part"))
    assert not list(tmp_path.rglob("x.pth"))


def test_a_web_page_is_told_from_a_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        fetched(tmp_path, "x.pth", DIGEST, Source(b"\n<!DOCTYPE html><p>log in"))
    assert str(caught.value).endswith("  mend:  a web page came instead of the file: open the address in a browser")


def test_a_download_cut_short_is_kept_and_gone_on_with(tmp_path: Path) -> None:
    def cut(part: Path) -> None:
        part.write_bytes(BODY[:10])
        raise WeightsError("cut")

    with pytest.raises(WeightsError, match="cut"):
        fetched(tmp_path, "x.pth", DIGEST, cut)
    assert fetched(tmp_path, "x.pth", DIGEST, Source(BODY[10:])).path.read_bytes() == BODY


def test_a_part_that_is_of_something_else_costs_one_more_download(tmp_path: Path) -> None:
    path = tmp_path / "downloads" / DIGEST / "x.pth"
    path.parent.mkdir(parents=True)
    part_of(path).write_bytes(b"else")
    source = Source(BODY[4:], BODY)
    assert fetched(tmp_path, "x.pth", DIGEST, source).path.read_bytes() == BODY
    assert source.asked == 2


def test_a_cached_file_is_hashed_again_only_when_it_was_touched(tmp_path: Path) -> None:
    found = fetched(tmp_path, "x.pth", DIGEST, Source(BODY))
    os.utime(found.path, ns=(1, 1))
    assert fetched(tmp_path, "x.pth", DIGEST, Source()) == found
    note = found.path.with_name("x.pth.json")
    assert json.loads(note.read_text()) == {"sha256": DIGEST, "stamp": [len(BODY), 1]}
    note.write_text("[")
    assert fetched(tmp_path, "x.pth", DIGEST, Source()) == found


def test_a_damaged_cached_file_is_downloaded_again(tmp_path: Path) -> None:
    found = fetched(tmp_path, "x.pth", DIGEST, Source(BODY))
    found.path.write_bytes(b"damaged")
    assert fetched(tmp_path, "x.pth", DIGEST, Source(BODY)).path.read_bytes() == BODY


def test_a_cache_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "downloads").write_text("a file")
    with pytest.raises(WeightsError) as caught:
        fetched(tmp_path, "x.pth", DIGEST, Source(BODY))
    assert str(caught.value) == (
        "x.pth cannot be kept in the cache: Not a directory\n"
        f"  where: {tmp_path / 'downloads' / DIGEST}\n"
        "  mend:  set XDG_CACHE_HOME to a folder with room that you may write to"
    )


def test_two_processes_download_a_file_once(files: FileServer, tmp_path: Path) -> None:
    files.files["/x.pth"] = BODY
    files.seconds = 1.0
    command = [sys.executable, "-c", FETCH, str(tmp_path), f"{files.address}/x.pth", DIGEST]
    root = Path(__file__).parents[2]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)]
    said = [process.communicate(timeout=60)[0].strip() for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert said == [str(tmp_path / "downloads" / DIGEST / "x.pth")] * 2
    assert files.asked == [("/x.pth", "")]


def test_a_lock_lets_go_with_its_process(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from zoo.weights.cache import locked\n"
        "with locked(Path(sys.argv[1])): os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "x")], check=True, cwd=Path(__file__).parents[2])
    started = monotonic()
    with locked(tmp_path / "x"):
        assert monotonic() - started < 5
