"""A real HTTP server on 127.0.0.1 that serves files, and drops connections or sends wrong bytes when told to."""

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class FileServer:
    """Serves `files` by path. `drops` are byte counts: each connection in turn ends after so many of its body.

    `ranges`: whether Range requests are understood. `sized`: whether Content-Length is sent. `statuses` replace the
    next answers, `redirects` are {path: location}. `seconds` is the pause before each body. `asked` lists
    (path, Range header or "").
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    drops: list[int] = field(default_factory=list)
    ranges: bool = True
    sized: bool = True
    statuses: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    content_range: str = ""
    seconds: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)


def _handler(served: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            path = self.path.partition("?")[0]
            served.asked.append((path, wanted))
            body = served.files.get(path)
            if path in served.redirects:
                return self._say(302, {"Location": served.redirects[path]})
            if served.statuses:
                return self._say(served.statuses.pop(0), {})
            if body is None:
                return self._say(404, {})
            return self._send(body, wanted)

        def _say(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def _send(self, body: bytes, wanted: str) -> None:
            found = re.fullmatch(r"bytes=(\d+)-", wanted) if served.ranges else None
            start = int(found[1]) if found else 0
            if found and start >= len(body):
                return self._say(416, {"Content-Range": f"bytes */{len(body)}"})
            self.send_response(206 if found else 200)
            if found:
                told = served.content_range or f"bytes {start}-{len(body) - 1}/{len(body)}"
                self.send_header("Content-Range", told)
            if served.sized:
                self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            time.sleep(served.seconds)
            self.wfile.write(body[start:][: served.drops.pop(0) if served.drops else None])
            return None

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing on stderr."""

    return Handler


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A running file server; HF_HUB_OFFLINE is not set."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    served = FileServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()
