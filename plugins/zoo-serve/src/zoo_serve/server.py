"""The process that serves: its socket, its signals, and connections that say nothing."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from zoo import ZooError

from zoo_serve.app import application
from zoo_serve.service import Service
from zoo_serve.settings import Settings

if TYPE_CHECKING:
    from zoo import Predictor

GRACE = 5
"""Seconds, beyond the timeout of a body and of an answer, after which a server that stops leaves the rest undone."""


class Patient(H11Protocol):
    """A connection that is closed when no request's headers arrive for `patience` seconds, uvicorn's own never is.

    What is not HTTP is answered 400 in JSON.
    """

    patience = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the connection."""
        super().connection_made(transport)
        self._idle_with: object = None
        self._watcher = self.loop.call_later(self.patience, self._watch)

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no longer."""
        self._watcher.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Close it when it is between the same two requests as the last time."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._idle_with is self.cycle:
            self.transport.close()
            return
        self._idle_with = self.cycle if idle else self
        self._watcher = self.loop.call_later(self.patience, self._watch)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless an answer is under way already."""
        body = json.dumps({"error": msg}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        events = (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        try:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, which a signal stops in good order and with status 0."""

    def __init__(self, service: Service) -> None:
        patience = service.settings.timeout
        super().__init__(
            uvicorn.Config(
                application(service),
                http=type("Patient", (Patient,), {"patience": patience}),
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(2 * patience) + GRACE,
            )
        )
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: what is under way is finished. A second signal does not wait for it."""
        self._service.state = "stopping"
        if self.should_exit:
            self.force_exit = True
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # each request that is cut would be a fault
        self.should_exit = True

    def give_up(self) -> None:
        """Stop without a signal."""
        self.should_exit = True


def run(load: "Callable[[], Predictor]", name: str, settings: Settings, host: str, port: int) -> None:
    """Serve what `load` returns until SIGINT or SIGTERM. ZooError: the port cannot be had. Raises what `load` does."""
    with listen(host, port) as bound:
        service = Service(load, name, settings)
        server = Server(service)
        service.when_ready = lambda: print(f"serving {name} at {address(bound)}  (Ctrl-C ends it)", flush=True)
        service.when_failed = server.give_up
        server.run(sockets=[bound])
    if service.failure is not None:
        raise service.failure


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to host and port, 0 for a free one. ZooError: that cannot be had."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ZooError(f"the host {host!r} is not known: {error}", hint="--host 127.0.0.1 is this computer") from error
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
        bound.listen()
    except OSError as error:
        bound.close()
        raise ZooError(
            f"port {port} of {host} cannot be had: {error.strerror}", hint="--port 0 takes a free one"
        ) from error
    return bound


def address(bound: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
