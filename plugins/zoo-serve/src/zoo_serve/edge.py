"""What every request passes on its way in and out: it is counted, and a body that nobody reads is dealt with."""

import asyncio
from contextlib import suppress
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zoo_serve.figures import Figures

LINGER = 1.0
"""Seconds for which the rest of a refused body is read and thrown away: a connection that is closed while its client
is still sending is reset, and the client may never see the answer."""
PATHS = frozenset({"/", "/predict", "/health", "/metrics", "/model"})
CLOSE = (b"connection", b"close")
NOSNIFF = (b"x-content-type-options", b"nosniff")


class Edge:
    """An application in front of another: counts its answers, and closes connections with a body that was not read."""

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        self._app, self._figures = app, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; what is none (the lifespan) untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._figures)
        await self._app(scope, exchange.receive, exchange.send)


class _Exchange:
    """A request and its answer. `whole`: nothing of the request is left to read."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, figures: Figures) -> None:
        self.whole = not _has_body(scope)
        self._receive, self._send, self._figures = receive, send, figures
        self._path = scope["path"] if scope["path"] in PATHS else "other"
        self._started, self._cut = perf_counter(), False

    async def receive(self) -> Message:
        """Return the next piece of the request, and see whether it is the last."""
        message = await self._receive()
        self.whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on a piece of the answer. Before its end, what is left of a body that nobody wanted is read."""
        if message["type"] == "http.response.start":
            await self._send(self._opened(message))
        elif self._cut and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drain()
            await self._send({"type": "http.response.body", "body": b""})
        else:
            await self._send(message)

    def _opened(self, message: Message) -> Message:
        self._figures.request(self._path, message["status"], perf_counter() - self._started)
        self._cut = not self.whole
        return {**message, "headers": [*message.get("headers", ()), NOSNIFF, *([CLOSE] if self._cut else [])]}

    async def _drain(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while not self.whole:
                    await self.receive()


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
