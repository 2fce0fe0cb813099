"""The routes, and the JSON of every answer and refusal."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from zoo_serve.batching import Shares
from zoo_serve.edge import Edge
from zoo_serve.figures import TEXT
from zoo_serve.page import HEADERS, PAGE
from zoo_serve.refusal import GONE, Refused
from zoo_serve.service import Service

routes = APIRouter()


def application(service: Service) -> ASGIApp:
    """Return the ASGI application for a service; it starts and stops the service with its lifespan."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    app.include_router(routes)
    for cause, handler in HANDLERS.items():
        app.add_exception_handler(cause, handler)
    return Edge(app, service.figures)


@routes.post("/predict")
async def predict(request: Request, top: Annotated[int, Query(ge=1)] = 5) -> Response:
    """Answer an image with its `top` likeliest classes, the likeliest first."""
    service = _service(request)
    service.uploads.check(request)
    loaded = service.loaded()
    loaded.batcher.check()
    with service.uploads.counting() as count:
        upload = await count.read(request, service.settings.timeout)
        shares = await _answered(loaded.submit(upload), request, service.settings.timeout)
    return JSONResponse({"classes": _named(shares, loaded.predictor.classes, top), "model": service.name})


@routes.get("/health")
async def health(request: Request) -> Response:
    """Say whether images are answered: 200, or 503 while the model is loading or stopping."""
    service = _service(request)
    about = {"model": service.name, "state": service.state}
    if service.state != "ready":
        return JSONResponse(about, 503, {"Retry-After": "1"})
    return JSONResponse(about | {"classes": len(service.loaded().predictor.classes)})


@routes.get("/model")
async def model(request: Request) -> Response:
    """Say what the model is: its class names in order, and the preprocessing that it does itself."""
    service = _service(request)
    predictor = service.loaded().predictor
    return JSONResponse({"model": service.name, "classes": list(predictor.classes), "input": asdict(predictor.input)})


@routes.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the figures, for Prometheus."""
    return Response(_service(request).figures.text(), media_type=TEXT)


@routes.get("/")
async def page() -> Response:
    """Return a page to try the model in a browser."""
    return HTMLResponse(PAGE, headers=HEADERS)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _answered(answer: "asyncio.Future[Shares]", request: Request, timeout: float) -> Shares:
    """Wait for an answer as long as its client does. Refused: 504, it takes longer than `timeout` seconds."""
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((answer, gone), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if gone.done():
            raise Refused(GONE, "the client has gone")
        raise Refused(504, f"there was no answer within {timeout:g} s", "try again")
    finally:
        gone.cancel()
        answer.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _named(shares: Shares, classes: tuple[str, ...], top: int) -> list[dict[str, Any]]:
    ranked = sorted(zip(classes, shares, strict=True), key=lambda pair: -pair[1])
    return [{"name": name, "probability": share} for name, share in ranked[:top]]


async def _refused(request: Request, error: Exception) -> Response:
    """Answer a `Refused`."""
    return error.response() if isinstance(error, Refused) else await _failed(request, error)


async def _misrouted(request: Request, error: Exception) -> Response:
    """Answer Starlette's own refusals, a path or method that there is not."""
    if not isinstance(error, HTTPException):
        return await _failed(request, error)
    return Refused(error.status_code, str(error.detail), headers=error.headers).response()


async def _invalid(_: Request, error: Exception) -> Response:
    """Answer a query that is not as declared."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    said = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in problems)
    return Refused(422, said or "the query is not understood").response()


async def _failed(_: Request, error: Exception) -> Response:
    """Answer a fault of the model or the server, which the log tells of."""
    return Refused(500, "the model failed on this image", "the server's log has the reason").response()


HANDLERS: dict[type[Exception], Any] = {
    Refused: _refused,
    HTTPException: _misrouted,
    RequestValidationError: _invalid,
    Exception: _failed,
}
