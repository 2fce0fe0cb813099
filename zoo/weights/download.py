"""Download a file over HTTP: from where it broke off, and never waiting long for an answer."""

import errno
import os
import re
import shutil
import socket
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib import request as http
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from zoo import __version__
from zoo.errors import WeightsError

PATIENCE = 4.0  # seconds for an answer: the lookup of the host's name, the connection and the headers
STALL = 30.0  # seconds without a byte, after which a connection is given up
TRIES = 5  # connections in a row that bring less than PROGRESS
PROGRESS = 1 << 20  # bytes
PAUSE = 0.5  # seconds before the second connection, doubled before each further one
WAYS_OUT = (
    'download it elsewhere and name it with use = "file"; or use = "card" with weights that are here; '
    "or fill the cache where there is a network"
)
_BLOCK = 1 << 20
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that may be others a moment later
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class _SilentError(Exception):
    """Nothing answers."""


class _BrokenError(Exception):
    """The connection ended before the file did, or the server is busy."""


@dataclass(frozen=True)
class _Answer:
    """An open response, and the file's whole size in bytes where the server says it."""

    response: HTTPResponse
    start: int
    total: int | None


def is_offline() -> bool:
    """Tell whether HF_HUB_OFFLINE forbids every download: it is what people set on machines without a network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def shown(url: str) -> str:
    """Return an address as messages have it: without its query, which may hold a key."""
    return url.partition("#")[0].partition("?")[0]


def file_name(url: str) -> str:
    """Return the name of the file at an address, "" when it ends in none; never one that leads out of a folder."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return "" if name in {".", ".."} or "\0" in name or "\\" in name else name[-120:]


def download(url: str, part: Path) -> None:
    """Complete the file `part` from `url` (http or https): what lies there is taken for its beginning.

    A connection that breaks off is taken up again by a Range request; a server that knows none sends all of it once
    more. Proxies of the environment are used, but not for this machine itself. WeightsError: HF_HUB_OFFLINE is set,
    nothing answers (within PATIENCE), the server refuses, TRIES connections in a row broke off, or there is no room.
    """
    if is_offline():
        raise _unreachable(url, "HF_HUB_OFFLINE is set")
    tries, before = 0, _size(part)
    while True:
        try:
            _connect(url, part)
            return
        except (_SilentError, _BrokenError) as error:
            size = _size(part)
            tries = 1 if size - before >= PROGRESS else tries + 1
            if isinstance(error, _SilentError) and tries == 1 and size == before:
                raise _unreachable(url, str(error)) from None
            if tries >= TRIES:
                raise _gave_up(url, size, str(error)) from None
            before = size
        time.sleep(PAUSE * 2 ** (tries - 1))


def _connect(url: str, part: Path) -> None:
    """Take what one connection brings."""
    start = _size(part)
    answer = _ask(url, start)
    if answer is None:
        return
    with answer.response:
        _require_room(answer, part, url)
        _receive(answer, part)
    size = _size(part)
    if answer.total is not None and size < answer.total:
        raise _BrokenError(f"the connection ended after {size:,} of {answer.total:,} bytes")
    if not size:
        raise WeightsError(f"{file_name(url)} is empty (0 bytes)", where=shown(url), hint="name another address")


def _ask(url: str, start: int) -> _Answer | None:
    """Return the server's answer, or None when the file ends at `start`. From 0 when it has no byte there."""
    try:
        response = _open_in_time(url, start)
    except HTTPError as error:
        with error:
            whole = error.headers.get("Content-Range") == f"bytes */{start}"
            if error.code != 416 or not start:
                raise _denied(url, error) from None
        return None if whole else _ask(url, 0)
    length = _number(response.headers.get("Content-Length"))
    if response.status != 206:
        return _Answer(response, 0, length)
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != start:
        response.close()
        raise WeightsError(f"{file_name(url)}: the server sent another part than was asked for", shown(url), WAYS_OUT)
    return _Answer(response, start, _number(found[2]) or (None if length is None else start + length))


def _open_in_time(url: str, start: int) -> HTTPResponse:
    """Return the response once its headers are here. _SilentError: there is none in time.

    Asked in a thread that nobody waits for: no timeout covers the lookup of the host's name.
    """
    said: list[HTTPResponse | Exception] = []
    gone = threading.Event()

    def ask() -> None:
        answer = _open(url, start)
        said.append(answer)
        if gone.is_set() and isinstance(answer, HTTPResponse | HTTPError):
            answer.close()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if not said:
        gone.set()
        raise _SilentError(f"no answer within {PATIENCE:g} s")
    if isinstance(said[0], HTTPResponse):
        return said[0]
    raise said[0]


def _open(url: str, start: int) -> HTTPResponse | Exception:
    headers = {"User-Agent": f"zoo-finetune/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        answer: HTTPResponse = _opener(url).open(http.Request(url, headers=headers), timeout=STALL)
    except HTTPError as error:
        return error
    except (OSError, HTTPException) as error:
        return _SilentError(_reason(error))
    return answer


def _opener(url: str) -> http.OpenerDirector:
    """An opener for HTTP alone: urllib's own would follow a redirection to FTP."""
    opener = http.OpenerDirector()
    proxies: dict[str, str] | None = {} if urlsplit(url).hostname in _LOOPBACK else None
    for handler in (
        http.ProxyHandler(proxies),
        http.UnknownHandler(),
        http.HTTPHandler(),
        http.HTTPSHandler(),
        http.HTTPDefaultErrorHandler(),
        http.HTTPRedirectHandler(),
        http.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _receive(answer: _Answer, part: Path) -> None:
    """Write what comes, from byte `start` on. _BrokenError: it stopped coming."""
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(answer.start)
        file.seek(answer.start)
        while block := _read(answer.response):
            file.write(block)


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)
    except TimeoutError:
        raise _BrokenError(f"no byte within {STALL:g} s") from None
    except (OSError, HTTPException) as error:
        raise _BrokenError(f"the connection broke: {_reason(error)}") from None


def _require_room(answer: _Answer, part: Path, url: str) -> None:
    wanted = (answer.total or 0) - answer.start
    if wanted > shutil.disk_usage(part.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), shown(url))


def _denied(url: str, error: HTTPError) -> Exception:
    status = f"{error.code} {error.reason}".strip()
    if error.code in _PASSING:
        return _BrokenError(f"the server says {status}")
    return WeightsError(f"{file_name(url)} could not be downloaded: {status}", shown(url), "check the address")


def _unreachable(url: str, why: str) -> WeightsError:
    what = f"{file_name(url)} is not in the cache, and {_host(url)} cannot be asked: {why}"
    return WeightsError(what, where=shown(url), hint=WAYS_OUT)


def _gave_up(url: str, size: int, why: str) -> WeightsError:
    what = f"{file_name(url)} could not be downloaded: {why}, after {TRIES} connections"
    kept = f"run it again, it goes on after the {size:,} bytes that are here; or " if size else ""
    return WeightsError(what, where=shown(url), hint=f"{kept}{WAYS_OUT}")


def _host(url: str) -> str:
    """The host, and the proxy on the way to it: an error of the proxy looks like one of the host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = None if host in _LOOPBACK or http.proxy_bypass(host) else http.getproxies().get(parts.scheme)
    return f"{host} (through the proxy {proxy.rpartition('@')[2]})" if proxy else host


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {STALL:g} s"
    if isinstance(cause, socket.gaierror):
        return "its name is unknown here"
    return str(cause) or type(cause).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
