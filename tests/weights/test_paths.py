"""Paths that lead to no file."""

import os
import socket
from pathlib import Path

import pytest

from zoo.errors import WeightsError
from zoo.weights.reading import read_tensors


def _refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.timeout(20)
def test_devices_and_pipes_are_not_waited_for(name: str, tmp_path: Path) -> None:
    mend = "\n  mend:  save the checkpoint to a file and name that"
    assert _refusal(Path("/dev/zero")) == f"/dev/zero is a device, not a file{mend}"
    os.mkfifo(tmp_path / name)
    assert _refusal(tmp_path / name) == f"{tmp_path / name} is a pipe, not a file{mend}"
    (tmp_path / f"link-{name}").symlink_to("/dev/zero")
    assert _refusal(tmp_path / f"link-{name}") == f"{tmp_path / f'link-{name}'} is a device, not a file{mend}"


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("x.pth")
        assert _refusal(Path("x.pth")).splitlines()[0] == "x.pth is a socket, not a file"


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.symlink_to(tmp_path / "b.pth")
    (tmp_path / "b.pth").symlink_to(path)
    assert _refusal(path) == f"{path} is a loop of symbolic links\n  mend:  name the file itself"


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.symlink_to("gone.pth")
    assert _refusal(path) == (
        f"{path} is a link to gone.pth, which is not there\n  mend:  link it anew, or name the file itself"
    )


def test_a_name_the_system_refuses_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 300}.pth"
    assert _refusal(path) == f"{path.name} cannot be read: File name too long\n  where: {path}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"x")
    path.chmod(0)
    assert _refusal(path) == f"x.pth cannot be read: Permission denied\n  where: {path}"


def test_a_file_that_fails_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.symlink_to("/proc/self/mem")
    # The kernel's files have no size: they are empty as long as nobody reads them.
    assert _refusal(path).splitlines()[0] == "x.pth is empty (0 bytes)"
