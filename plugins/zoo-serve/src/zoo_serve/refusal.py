"""What is refused, as an HTTP status and the JSON that says why."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

GONE = 499
"""The client has gone: nobody reads this, but it is counted."""


class Refused(Exception):  # noqa: N818  what was asked is refused, the server is fine
    """A request that gets no answer: its HTTP status, what is wrong, and how to mend it."""

    def __init__(self, status: int, error: str, hint: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, error)
        self.status, self.error, self.hint, self.headers = status, error, hint, dict(headers or {})

    def response(self) -> JSONResponse:
        """Return {"error": …, "hint": …} with the status."""
        content = {"error": self.error} | ({"hint": self.hint} if self.hint else {})
        return JSONResponse(content, self.status, self.headers)


def busy(error: str) -> Refused:
    """Return a 503 that asks the client to come again in a second."""
    return Refused(503, error, "try again", {"Retry-After": "1"})
