"""Reading a request's body: counted while it arrives, given up when it is too long, too slow, or too much for all."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from zoo_serve.refusal import GONE, Refused, busy
from zoo_serve.settings import MEGABYTE, Settings

FORM = "multipart/form-data"
PLAIN = ("", "application/octet-stream", "binary/octet-stream")


@dataclass(frozen=True)
class Upload:
    """A whole body and its content type, parameters included ("multipart/form-data; boundary=…")."""

    data: bytes
    content_type: str

    @property
    def is_form(self) -> bool:
        """Whether the image is a field of it."""
        return kind_of(self.content_type) == FORM


class Uploads:
    """Reads bodies. `held` is how many bytes of them are in memory, those that are still arriving included."""

    def __init__(self, settings: Settings) -> None:
        self.held = 0
        self._settings = settings

    @contextmanager
    def counting(self) -> Iterator["Count"]:
        """Hold what is read in the block, until the block ends."""
        count = Count(self)
        try:
            yield count
        finally:
            self.held -= count.held

    def check(self, request: Request) -> None:
        """Refuse what the headers alone rule out: 415 for the content's type or encoding, 413 for its length."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refused(415, "a Content-Encoding is not decoded", "send the image's own bytes")
        kind = kind_of(request.headers.get("content-type", ""))
        if not (kind in PLAIN or kind == FORM or kind.startswith("image/")):
            raise Refused(415, f"a body of the type {kind[:80]!r} is no image", _WAYS)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.max_bytes:
            raise self.too_long()

    def too_long(self) -> Refused:
        """Return the refusal of a body that is longer than allowed."""
        return Refused(
            413, f"the body is longer than {self._settings.max_bytes / MEGABYTE:g} MB", "send a smaller file"
        )

    def take(self, count: "Count", chunk: bytes) -> None:
        """Count a chunk. Refused: 413, the body is too long; 503, all bodies together are."""
        count.held += len(chunk)
        self.held += len(chunk)
        if count.held > self._settings.max_bytes:
            raise self.too_long()
        if self.held > self._settings.max_held:
            raise busy("too many uploads are under way")


class Count:
    """Reads one body, and knows how many bytes of it are in memory."""

    def __init__(self, uploads: Uploads) -> None:
        self.held = 0
        self._uploads = uploads

    async def read(self, request: Request, timeout: float) -> Upload:
        """Return the whole body. Refused: 400, it is empty; 408, it takes longer than `timeout` seconds; see `take`."""
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(timeout):
                async for chunk in request.stream():
                    self._uploads.take(self, chunk)
                    chunks.append(chunk)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {timeout:g} s") from None
        except ClientDisconnect:
            raise Refused(GONE, "the client has gone") from None
        if not self.held:
            raise Refused(400, "the body is empty", _WAYS)
        return Upload(b"".join(chunks), request.headers.get("content-type", ""))


_WAYS = "send the image as the body, with its type or application/octet-stream, or as the form field 'image'"


def kind_of(content_type: str) -> str:
    """Return the type without its parameters, in small letters."""
    return content_type.partition(";")[0].strip().lower()
