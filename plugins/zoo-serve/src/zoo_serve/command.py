"""`zoo serve BUNDLE`."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from zoo import ZooError

from zoo_serve.settings import MAX_BYTES, MAX_PIXELS, MEGABYTE, PILLOWS_PIXELS, Settings

if TYPE_CHECKING:
    from zoo import Predictor

UNITS = {"": 1, "kb": 1000, "mb": MEGABYTE, "gb": 1000 * MEGABYTE}


def serve(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle of `zoo export`: a folder or a zip.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    artefact: Annotated[
        str | None, typer.Option(help="Main file of one of the bundle's formats. [default: the exact weights]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in answers. [default: the bundle's]")] = None,
    max_bytes: Annotated[str, typer.Option(metavar="SIZE", help="Largest upload: 500kB, 20MB.")] = f"{MAX_BYTES}MB",
    max_pixels: Annotated[int, typer.Option(min=1, max=PILLOWS_PIXELS, help="Largest image.")] = MAX_PIXELS,
    batch: Annotated[int, typer.Option(min=1, help="Most images that go through the network together.")] = 32,
    wait_ms: Annotated[float, typer.Option(min=0, help="How long a batch waits for more images.")] = 5,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for an upload, and for its answer.")] = 30,
    queue: Annotated[int, typer.Option(min=1, help="Most images that wait; more are refused (503).")] = 128,
) -> None:
    """Answer images over HTTP by a bundle's model: POST /predict, and a page to try it.

    Example: zoo serve runs/resnet50_cls/export --port 8000
    """
    size = size_of(max_bytes)
    from zoo_serve.server import run

    settings = Settings(size, max_pixels, batch, wait_ms / 1000, timeout, queue)
    load = partial(_load, bundle, device, artefact, context.obj.registry)
    run(load, name or name_of(bundle), settings, host, port)


def name_of(bundle: Path) -> str:
    """Return what a bundle is called: its folder or zip, or the run when it is the run's folder `export`."""
    whole = bundle.resolve()
    named = whole.parent if whole.name == "export" else whole
    return named.stem if named.suffix == ".zip" else named.name


def size_of(text: str) -> int:
    """Return bytes for "20MB", "500 kB" or "1000000". ZooError: it is no such size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]b|)", text.strip().lower())
    size = round(float(found[1]) * UNITS[found[2]]) if found else 0
    if size < 1:
        raise ZooError(f"--max-bytes {text} is no size", hint="write 500kB, 20MB or a number of bytes")
    return size


def _load(bundle: Path, device: str, artefact: str | None, registry: Callable[[], Any]) -> "Predictor":
    """Load a bundle with the parts of the plugins that are not left out. Called in a thread: it imports torch."""
    import zoo

    return zoo.load(bundle, device=device, artefact=artefact, registry=registry())
