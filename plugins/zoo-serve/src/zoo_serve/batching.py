"""Dynamic batching: images are decoded in threads; those that are ready together go through the network together."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo_serve.figures import Figures
from zoo_serve.refusal import busy
from zoo_serve.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor
    from zoo import Predictor

Shares = list[float]
"""The probabilities of all classes, in their order."""


class Room:
    """Keeps the decoded images that wait to about `most` bytes: decoding pauses while there are more.

    A network that takes images of any size gets them whole, and they are far larger than what was sent.
    """

    def __init__(self, most: int) -> None:
        self._most, self._taken, self._closed = most, 0, False
        self._change = threading.Condition()

    def fill(self, decode: "Callable[[], Tensor]") -> "Tensor":
        """Decode an image when there is room, and take its bytes. Called in a thread."""
        with self._change:
            self._change.wait_for(lambda: self._closed or self._taken < self._most)
        image = decode()
        with self._change:
            self._taken += image.nbytes
        return image

    def free(self, images: "Iterable[Tensor]") -> None:
        """Give back the bytes of images that are done with."""
        with self._change:
            self._taken -= sum(image.nbytes for image in images)
            self._change.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._change:
            self._closed = True
            self._change.notify_all()


@dataclass(frozen=True, eq=False)
class Job:
    """An image that is ready for the network, since when on the loop's clock, and who waits for its answer."""

    image: "Tensor"
    since: float
    answer: "asyncio.Future[Shares]"


class Batcher:
    """Answers images. Used in one event loop, from `start` to `stop`.

    `waiting` is how many images have been taken and are not done with: those whose client has gone count until the
    thread that decodes them is free again.
    """

    def __init__(self, predictor: "Predictor", settings: Settings, figures: Figures) -> None:
        self.waiting = 0
        self._predictor, self._settings, self._figures = predictor, settings, figures
        self._decoders = ThreadPoolExecutor(settings.decoders, "zoo-serve-decode")
        self._network = ThreadPoolExecutor(1, "zoo-serve-network")
        self._ready: asyncio.Queue[Job] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None
        self._room = Room(settings.max_decoded)

    def start(self) -> None:
        """Begin to answer."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Give up what has no answer yet, and end the threads."""
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        self._room.close()
        for pool in (self._decoders, self._network):
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

    def check(self) -> None:
        """Refuse with 503 when the queue is full."""
        if self.waiting >= self._settings.queue:
            raise busy(f"{self.waiting} images are waiting already")

    def submit(self, decode: "Callable[[], Tensor]") -> "asyncio.Future[Shares]":
        """Return the answer to come for the image that `decode` returns; whatever it raises, the answer raises.

        An answer that is cancelled costs no further work. Refused: 503, the queue is full.
        """
        self.check()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Shares] = loop.create_future()
        decoding = self._decoders.submit(self._room.fill, decode)
        self.waiting += 1
        answer.add_done_callback(lambda _: decoding.cancel())
        decoding.add_done_callback(lambda done: loop.call_soon_threadsafe(self._decoded, done, answer))
        return answer

    def _decoded(self, decoding: "Future[Tensor]", answer: "asyncio.Future[Shares]") -> None:
        error = None if decoding.cancelled() else decoding.exception()
        if error is None and not decoding.cancelled():  # where nobody waits any more, the worker throws it away
            self._ready.put_nowait(Job(decoding.result(), asyncio.get_running_loop().time(), answer))
            return
        self.waiting -= 1
        if error is not None and not answer.done():
            answer.set_exception(error)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            jobs = await self._gather()
            live = [job for job in jobs if not job.answer.done()]
            if live:
                self._figures.batch(len(live))
                found = await loop.run_in_executor(self._network, self._compute, [job.image for job in live])
                for job, result in zip(live, found, strict=True):
                    _settle(job.answer, result)
            self.waiting -= len(jobs)
            self._room.free(job.image for job in jobs)

    async def _gather(self) -> list[Job]:
        """Return the jobs of a batch: what is ready, and what gets ready before the first one has waited enough."""
        jobs = [await self._ready.get()]
        until = jobs[0].since + self._settings.wait
        while len(jobs) < self._settings.batch:
            if self._ready.empty():
                try:
                    async with asyncio.timeout_at(until):
                        jobs.append(await self._ready.get())
                except TimeoutError:
                    break
            else:
                jobs.append(self._ready.get_nowait())
        return jobs

    def _compute(self, images: "Sequence[Tensor]") -> list[Shares | Exception]:
        """Return each image's answer, or why there is none. Where a batch fails, each of it is tried alone."""
        try:
            return list(self._shares(images))
        except Exception as error:  # noqa: BLE001  a network may raise anything; it is the one request's
            if len(images) == 1:
                return [error]
            return [self._compute([image])[0] for image in images]

    def _shares(self, images: "Sequence[Tensor]") -> list[Shares]:
        logits = self._predictor.logits(images)
        if tuple(logits.shape) != (len(images), len(self._predictor.classes)) or not bool(logits.isfinite().all()):
            raise RuntimeError("the network's answer is not finite, or not one number for each class")
        shares: list[Shares] = logits.softmax(dim=1).tolist()
        return shares


def _settle(answer: "asyncio.Future[Shares]", result: Shares | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
