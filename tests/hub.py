"""A real HTTP server on 127.0.0.1 that speaks as much of the Hugging Face Hub's protocol as a download needs."""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub as hf
import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEMPLATE = "/{repo_id}/resolve/{revision}/{filename}"


@dataclass
class Hub:
    """A hub that serves `files` by `repo/file`, at any revision of `COMMIT`; `status` replaces every answer.

    `drops` are byte counts: each download in turn ends after so many of its body.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    status: int | None = None
    drops: list[int] = field(default_factory=list)
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
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if send and status == 200 and wanted and body:
                start = int(wanted[1])
                hub.asked.append(f"from {start}")
                status, told = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
                body = body[start:]
                headers = {**headers, "Content-Length": str(len(body)), "Content-Range": told}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if send:
                self.wfile.write(body[: hub.drops.pop(0) if hub.drops and body else None])

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
