"""The hub source against a real HTTP server that speaks the hub's protocol, and against none."""

import socket
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from time import monotonic

import pytest
import tomli_w
import torch
from huggingface_hub import constants
from safetensors.torch import save
from torch import Tensor

from tests.hub import COMMIT, Hub, hub
from zoo.errors import WeightsError
from zoo.registry.builtin.weights import HubOptions
from zoo.registry.contracts import WeightsRequest
from zoo.weights import hub as source
from zoo.weights.cards import open_card, read_card
from zoo.weights.reading import read_tensors

__all__ = ["hub"]  # the fixture

OPTIONS = HubOptions(repo="zoo/tiny", sha256=None)
FILE = "zoo/tiny/model.safetensors"


def _url(hub: Hub, revision: str = "main", file: str = FILE) -> str:
    owner, name, rest = file.split("/", 2)
    return f"{hub.address}/{owner}/{name}/resolve/{revision}/{rest}"


def _refusal(options: HubOptions, request: WeightsRequest) -> str:
    with pytest.raises(WeightsError) as caught:
        source.build(options, request)
    return str(caught.value)


@pytest.fixture
def served(hub: Hub, tensors: dict[str, Tensor]) -> Hub:
    """The hub with one repository."""
    hub.files[FILE] = save(tensors)
    return hub


def test_a_file_is_downloaded(served: Hub, request_: WeightsRequest, tensors: dict[str, Tensor]) -> None:
    found = source.build(OPTIONS, request_)
    assert found.origin == f"hub zoo/tiny@{COMMIT[:12]}"
    read = read_tensors(found.path)
    assert all(torch.equal(read[key], tensors[key]) for key in tensors)
    assert f"GET /{_url(served).split('/', 3)[3]}" in served.asked


def test_a_broken_download_comes_whole(served: Hub, request_: WeightsRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64)
    served.drops = [100]
    found = source.build(OPTIONS, request_)
    assert found.path.read_bytes() == served.files[FILE]
    assert "from 64" in served.asked


def test_wrong_bytes_are_refused_when_they_are_read(served: Hub, request_: WeightsRequest) -> None:
    right = sha256(served.files[FILE]).hexdigest()
    served.files[FILE] = save({"conv.weight": torch.zeros(1)})
    found = source.build(HubOptions(repo="zoo/tiny", sha256=right), request_)
    with pytest.raises(WeightsError) as caught:
        read_tensors(found.path, found.sha256)
    wrong = sha256(served.files[FILE]).hexdigest()
    assert str(caught.value).splitlines()[0] == f"model.safetensors has sha256 {wrong}, not {right}"


@pytest.mark.parametrize("offline", [True, False])
def test_a_file_in_the_cache_needs_no_network(
    offline: bool, served: Hub, request_: WeightsRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = source.build(OPTIONS, request_)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    if offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    served.asked.clear()
    assert source.build(OPTIONS, request_) == first
    assert served.asked == []


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        (
            OPTIONS.model_copy(update={"file": "weights.bin"}),
            "zoo/tiny has no file weights.bin",
            "look at the repository's list of files",
        ),
        (
            OPTIONS.model_copy(update={"repo": "zoo/tinny"}),
            "the hub shows no repository zoo/tinny",
            "check the name; if private, `hf auth login`",
        ),
        (
            OPTIONS.model_copy(update={"revision": "v9"}),
            "zoo/tiny has no revision 'v9'",
            "name a branch, tag or commit",
        ),
    ],
)
def test_what_the_hub_lacks_is_named(
    options: HubOptions, what: str, hint: str, served: Hub, request_: WeightsRequest
) -> None:
    url = _url(served, options.revision, f"{options.repo}/{options.file}")
    assert _refusal(options, request_) == f"{what}\n  where: {url}\n  mend:  {hint}"


def test_a_refusal_of_the_hub_is_quoted(served: Hub, request_: WeightsRequest) -> None:
    served.status = 403
    message = _refusal(OPTIONS, request_)
    assert message.startswith("model.safetensors could not be downloaded: ")
    assert "403 Forbidden" in message.splitlines()[0]
    assert message.endswith(f"\n  where: {_url(served)}\n  mend:  {source.WAYS_OUT}")


def test_a_portal_that_answers_for_the_hub_is_refused(served: Hub, request_: WeightsRequest) -> None:
    served.status = 200
    first = _refusal(OPTIONS, request_).splitlines()[0]
    assert first.startswith(f"model.safetensors could not be downloaded: Response from {_url(served)} is missing")


def test_a_closed_port_is_noticed_at_once(hub: Hub, request_: WeightsRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = monotonic()
    message = _refusal(OPTIONS, request_)
    assert monotonic() - began < 5
    assert message == (
        "model.safetensors is not in the cache, and the hub cannot be asked: [Errno 111] Connection refused\n"
        "  where: http://127.0.0.1:9/zoo/tiny/resolve/main/model.safetensors\n"
        f"  mend:  {source.WAYS_OUT}"
    )


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never says a word, as some firewalls do."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_silent_network_is_given_up_in_time(
    hub: Hub, silent: str, request_: WeightsRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", silent)
    monkeypatch.setattr(source, "PATIENCE", 0.3)
    began = monotonic()
    message = _refusal(OPTIONS, request_)
    assert monotonic() - began < 3
    assert message.splitlines()[0].endswith("the hub cannot be asked: no answer within 0.3 s")


def test_offline_without_a_cache_says_so(hub: Hub, request_: WeightsRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    first = _refusal(OPTIONS, request_).splitlines()[0]
    assert first == "model.safetensors is not in the cache, and the hub cannot be asked: HF_HUB_OFFLINE is set"
    assert hub.asked == []


def test_a_card_may_point_to_the_hub(
    served: Hub, request_: WeightsRequest, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    content = save(tensors)
    path = tmp_path / "tiny.toml"
    card = {
        "architecture": "timm/tiny",
        "origin": {"use": "hub", "repo": "zoo/tiny"},
        "bytes": len(content),
        "sha256": sha256(content).hexdigest(),
        "licence": "CC0-1.0",
        "made": "by this test",
    }
    path.write_text(tomli_w.dumps(card))
    found = open_card(read_card(path), path, request_)
    assert found.origin == f"card tiny, hub zoo/tiny@{COMMIT[:12]}"
    assert len(read_tensors(found.path, found.sha256)) == 5
