"""A real server in a thread, a model whose right answers are plain to see, and images to send it."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager
from io import BytesIO

import httpx
from PIL import Image
from zoo import InputSpec, Predictor

from zoo_serve.server import Server, address, listen
from zoo_serve.service import Service
from zoo_serve.settings import Settings

CLASSES = ("red", "green", "blue")
SPEC = InputSpec(size=(32, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear", crop_pct=1.0)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def colours(images):
    """(B, 3, H, W) in 0 to 1 → logits (B, 3): the class is the image's strongest colour."""
    return 4 * images.mean(dim=(2, 3))


def predictor(network=colours):
    return Predictor(network, SPEC, CLASSES)


def picture(colour=RED, size=(48, 40), format="PNG", mode="RGB", **options):
    file = BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(file, format, **options)
    return file.getvalue()


class Running:
    """A server that runs, and a client for it."""

    def __init__(self, service, server, url):
        self.service, self.server, self.url = service, server, url
        self.port = httpx.URL(url).port
        self.client = httpx.Client(base_url=url, timeout=20)

    def post(self, content, type="application/octet-stream", **options):
        headers = {"Content-Type": type} | options.pop("headers", {})
        return self.client.post("/predict", content=content, headers=headers, **options)

    def is_well(self):
        """Whether a good request still gets its right answer."""
        answer = self.post(picture(GREEN))
        return answer.status_code == 200 and answer.json()["classes"][0]["name"] == "green"

    def figure(self, name):
        """The value of a line of /metrics, 0 when there is none yet."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        return 0.0

    def raw(self, *pieces, wait=0.0):
        """Send bytes as they are, `wait` seconds apart, and return all that is answered until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(wait)
            return received(connection)


def received(connection):
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


@contextmanager
def serving(load=predictor, at_once=False, **settings):
    """Run a server on a free port of 127.0.0.1 for the block; unless `at_once`, it is ready, or has failed, by then."""
    settled = threading.Event()
    service = Service(load, "colours", Settings(**settings), when_ready=settled.set)
    server = Server(service)
    service.when_failed = lambda: (settled.set(), server.give_up())
    with listen("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            if not at_once and not settled.wait(30):
                raise TimeoutError("the server did not start")
            running = Running(service, server, address(bound))
            try:
                yield running
            finally:
                running.client.close()
        finally:
            server.give_up()
            thread.join(30)
    if thread.is_alive():
        raise TimeoutError("the server did not end")


async def together(url, contents, top=3):
    """Post every content at the same moment, each on a connection of its own; return the answers in their order."""
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=httpx.Limits(max_connections=None)) as client:
        posts = [client.post("/predict", params={"top": top}, content=content) for content in contents]
        return await asyncio.gather(*posts)


def until(condition, seconds=10.0):
    """Wait for a condition; return whether it came true."""
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return met
