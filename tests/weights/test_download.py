"""Downloads against a real HTTP server that drops connections, knows no ranges, or says nothing."""

import socket
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fileserver import FileServer, files
from zoo.errors import WeightsError
from zoo.weights import download as module
from zoo.weights.download import WAYS_OUT, download, file_name, shown

__all__ = ["files"]  # the fixture

BODY = bytes(range(256)) * 200


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)


def _refusal(url: str, part: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        download(url, part)
    return str(caught.value)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drops=st.lists(st.integers(0, len(BODY) - 1), max_size=4),
    have=st.integers(0, len(BODY)),
    ranges=st.booleans(),
)
def test_however_it_breaks_off_the_file_comes_whole(
    drops: list[int], have: int, ranges: bool, files: FileServer, tmp_path: Path
) -> None:
    files.files["/x.pth"], files.drops, files.ranges = BODY, list(drops), ranges
    part = tmp_path / "x.part"
    part.write_bytes(BODY[:have])
    download(f"{files.address}/x.pth", part)
    assert part.read_bytes() == BODY


def test_a_broken_download_goes_on_where_it_stopped(files: FileServer, tmp_path: Path) -> None:
    files.files["/x.pth"], files.drops = BODY, [1000, 2000]
    download(f"{files.address}/x.pth", tmp_path / "x.part")
    assert files.asked == [("/x.pth", ""), ("/x.pth", "bytes=1000-"), ("/x.pth", "bytes=3000-")]


def test_a_part_that_is_whole_already_or_too_long(files: FileServer, tmp_path: Path) -> None:
    files.files["/x.pth"] = BODY
    part = tmp_path / "x.part"
    part.write_bytes(BODY)
    download(f"{files.address}/x.pth", part)
    assert len(files.asked) == 1
    part.write_bytes(BODY + b"more")
    download(f"{files.address}/x.pth", part)
    assert part.read_bytes() == BODY
    assert [wanted for _, wanted in files.asked[1:]] == ["bytes=51204-", ""]


def test_a_server_without_ranges_sends_all_of_it_again(files: FileServer, tmp_path: Path) -> None:
    files.files["/x.pth"], files.drops, files.ranges = BODY, [1000], False
    download(f"{files.address}/x.pth", tmp_path / "x.part")
    assert (tmp_path / "x.part").read_bytes() == BODY
    assert files.asked == [("/x.pth", ""), ("/x.pth", "bytes=1000-")]


def test_a_length_that_is_not_told_is_no_matter(files: FileServer, tmp_path: Path) -> None:
    files.files["/x.pth"], files.sized = BODY, False
    download(f"{files.address}/x.pth", tmp_path / "x.part")
    assert (tmp_path / "x.part").read_bytes() == BODY


def test_it_gives_up_after_five_connections_and_keeps_what_came(files: FileServer, tmp_path: Path) -> None:
    files.files["/x.pth"], files.drops = BODY, [10] * 9
    assert _refusal(f"{files.address}/x.pth", tmp_path / "x.part") == (
        "x.pth could not be downloaded: the connection ended after 50 of 51,200 bytes, after 5 connections\n"
        f"  where: {files.address}/x.pth\n"
        f"  mend:  run it again, it goes on after the 50 bytes that are here; or {WAYS_OUT}"
    )
    assert (tmp_path / "x.part").read_bytes() == BODY[:50]
    files.drops.clear()
    download(f"{files.address}/x.pth", tmp_path / "x.part")
    assert (tmp_path / "x.part").read_bytes() == BODY


def test_a_busy_server_is_asked_again(files: FileServer, tmp_path: Path) -> None:
    files.files["/x.pth"], files.statuses = BODY, [503, 429]
    download(f"{files.address}/x.pth", tmp_path / "x.part")
    assert len(files.asked) == 3
    files.statuses = [503] * 9
    assert _refusal(f"{files.address}/x.pth", tmp_path / "y.part") == (
        "x.pth could not be downloaded: the server says 503 Service Unavailable, after 5 connections\n"
        f"  where: {files.address}/x.pth\n"
        f"  mend:  {WAYS_OUT}"
    )


def test_a_refusal_is_quoted_and_a_key_in_the_address_is_not(files: FileServer, tmp_path: Path) -> None:
    assert _refusal(f"{files.address}/x.pth?key=secret", tmp_path / "x.part") == (
        f"x.pth could not be downloaded: 404 Not Found\n  where: {files.address}/x.pth\n  mend:  check the address"
    )
    assert len(files.asked) == 1


def test_an_empty_file_is_refused(files: FileServer, tmp_path: Path) -> None:
    files.files["/x.pth"] = b""
    assert _refusal(f"{files.address}/x.pth", tmp_path / "x.part") == (
        f"x.pth is empty (0 bytes)\n  where: {files.address}/x.pth\n  mend:  name another address"
    )


def test_another_part_than_was_asked_for_is_refused(files: FileServer, tmp_path: Path) -> None:
    files.files["/x.pth"], files.content_range = BODY, "bytes 5-51199/51200"
    (tmp_path / "x.part").write_bytes(BODY[:10])
    assert _refusal(f"{files.address}/x.pth", tmp_path / "x.part") == (
        f"x.pth: the server sent another part than was asked for\n  where: {files.address}/x.pth\n  mend:  {WAYS_OUT}"
    )


def test_a_redirection_is_followed_with_its_range_but_not_out_of_the_web(files: FileServer, tmp_path: Path) -> None:
    files.files["/y.pth"], files.redirects["/x.pth"], files.drops = BODY, "/y.pth", [1000]
    download(f"{files.address}/x.pth", tmp_path / "x.part")
    assert files.asked[-1] == ("/y.pth", "bytes=1000-")
    files.redirects["/x.pth"] = "ftp://127.0.0.1/y.pth"
    first = _refusal(f"{files.address}/x.pth", tmp_path / "y.part").splitlines()[0]
    assert first == ("x.pth is not in the cache, and 127.0.0.1 cannot be asked: unknown url type: ftp")


def test_offline_nothing_is_asked(files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _refusal(f"{files.address}/x.pth", tmp_path / "x.part") == (
        "x.pth is not in the cache, and 127.0.0.1 cannot be asked: HF_HUB_OFFLINE is set\n"
        f"  where: {files.address}/x.pth\n"
        f"  mend:  {WAYS_OUT}"
    )
    assert files.asked == []


def test_a_closed_port_and_an_unknown_name_are_noticed_in_time(tmp_path: Path, files: FileServer) -> None:
    began = monotonic()
    assert _refusal("http://127.0.0.1:9/x.pth", tmp_path / "x.part") == (
        "x.pth is not in the cache, and 127.0.0.1 cannot be asked: [Errno 111] Connection refused\n"
        "  where: http://127.0.0.1:9/x.pth\n"
        f"  mend:  {WAYS_OUT}"
    )
    first = _refusal("https://zoo.invalid/x.pth", tmp_path / "x.part").splitlines()[0]
    assert first in {
        "x.pth is not in the cache, and zoo.invalid cannot be asked: its name is unknown here",
        "x.pth is not in the cache, and zoo.invalid cannot be asked: no answer within 4 s",
    }
    assert monotonic() - began < 5


def test_a_silent_network_is_given_up_in_time(
    tmp_path: Path, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x.pth"
        began = monotonic()
        first = _refusal(url, tmp_path / "x.part").splitlines()[0]
    assert monotonic() - began < 2
    assert first == "x.pth is not in the cache, and 127.0.0.1 cannot be asked: no answer within 0.3 s"


def test_a_proxy_is_named_without_its_password(
    tmp_path: Path, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    assert _refusal("http://zoo.invalid/x.pth", tmp_path / "x.part").splitlines()[0] == (
        "x.pth is not in the cache, and zoo.invalid (through the proxy 127.0.0.1:9) cannot be asked: "
        "[Errno 111] Connection refused"
    )
    files.files["/x.pth"] = BODY
    download(f"{files.address}/x.pth", tmp_path / "y.part")  # this machine itself needs no proxy


def test_a_full_disk_is_noticed_before_it_is_full(
    tmp_path: Path, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.files["/x.pth"] = BODY
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match="No space left on device"):
        download(f"{files.address}/x.pth", tmp_path / "x.part")
    assert not (tmp_path / "x.part").exists()


@given(path=st.text(max_size=40))
def test_a_name_never_leads_out_of_its_folder(path: str) -> None:
    name = file_name(f"http://host/{path}")
    assert name == Path(name).name
    assert name not in {".", ".."}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/x.pth?download=1#top", "x.pth"),
        ("http://h/a/%2e%2e%2fx%20y.pth", "x y.pth"),
        ("http://h/a/..", ""),
        ("http://h", ""),
    ],
)
def test_the_name_is_the_end_of_the_path(url: str, name: str) -> None:
    assert file_name(url) == name
    assert "?" not in shown(url)
