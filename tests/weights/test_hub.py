"""The hub source against a real HTTP server that speaks the hub's protocol, and against none."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic

import huggingface_hub as hf
import pytest
import tomli_w
import torch
from huggingface_hub import constants
from safetensors.torch import save
from torch import Tensor

from zoo.errors import WeightsError
from zoo.registry.builtin.weights import HubOptions
from zoo.registry.contracts import WeightsRequest
from zoo.weights import hub as source
from zoo.weights.cards import open_card, read_card
from zoo.weights.reading import read_tensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEMPLATE = "/{repo_id}/resolve/{revision}/{filename}"
OPTIONS = HubOptions(repo="zoo/tiny", sha256=None)
FILE = "zoo/tiny/model.safetensors"


@dataclass
class Hub:
    """A hub that serves `files` by `repo/file`, at any revision of `COMMIT`; `status` replaces every answer."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    status: int | None = None
    asked: list[str] = field(default_factory=list)

    def headers(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for /owner/name/resolve/revision/file."""
        if self.status is not None:
            return self.status, {"Content-Length": "0"}, b""
        owner, name, _, revision, file = (path.split("/", 5)[1:] + [""] * 5)[:5]
        body = self.files.get(f"{owner}/{name}/{file}")
        known = any(key.startswith(f"{owner}/{name}/") for key in self.files)
        code = "" if body is not None else "EntryNotFound" if known else "RepoNotFound"
        if known and revision not in ("main", COMMIT):
            code, body = "RevisionNotFound", None
        if body is None:
            return 404, {"X-Error-Code": code, "X-Repo-Commit": COMMIT, "Content-Length": "0"}, b""
        etag = sha256(body).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}, body


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            hub.asked.append(f"HEAD {self.path}")
            self._answer(send=False)

        def do_GET(self) -> None:
            hub.asked.append(f"GET {self.path}")
            self._answer(send=True)

        def _answer(self, send: bool) -> None:
            status, headers, body = hub.headers(self.path)
            if self.path == "/api/agent-harnesses":
                status, body = 200, json.dumps({"harnesses": {}}).encode()
                headers = {"Content-Length": str(len(body))}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if send:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing on stderr."""

    return Handler


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub, with Hugging Face's cache in `tmp_path` and HF_ENDPOINT set to it."""
    served = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", served.address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # What importing the library with HF_ENDPOINT set would have left in these.
    monkeypatch.setattr(constants, "ENDPOINT", served.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.address + TEMPLATE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"), raising=False)
    yield served
    hf.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


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
