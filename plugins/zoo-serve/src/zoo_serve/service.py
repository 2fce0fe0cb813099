"""A model that is being loaded, answers, or is about to stop."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from PIL import Image

from zoo_serve.batching import Batcher, Shares
from zoo_serve.figures import Figures
from zoo_serve.image import image_of
from zoo_serve.refusal import busy
from zoo_serve.settings import Settings
from zoo_serve.uploads import Upload, Uploads

if TYPE_CHECKING:
    from zoo import Predictor

State = Literal["loading", "ready", "failed", "stopping"]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Loaded:
    """A predictor and the batcher in front of it."""

    predictor: "Predictor"
    batcher: Batcher
    settings: Settings

    def submit(self, upload: Upload) -> "asyncio.Future[Shares]":
        """Return the answer to come for an upload. Refused: 503, the queue is full."""
        return self.batcher.submit(partial(image_of, upload, self.predictor, self.settings))


@dataclass(eq=False)
class Service:
    """What `load` returns, served under `name`. `load` runs in a thread, while the server answers that it is not ready.

    `when_ready` and `when_failed` are called in the event loop; `failure` is what `load` raised.
    """

    load: "Callable[[], Predictor]"
    name: str
    settings: Settings = field(default_factory=Settings)
    when_ready: Callable[[], None] = _nothing
    when_failed: Callable[[], None] = _nothing
    state: State = "loading"
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self.figures = Figures()
        self.uploads = Uploads(self.settings)
        self._loaded: Loaded | None = None
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to load."""
        self._loading = asyncio.create_task(self._load())

    async def stop(self) -> None:
        """Answer nothing new, and end the threads."""
        self.state = "stopping"
        if self._loading is not None:
            self._loading.cancel()
            with suppress(asyncio.CancelledError):
                await self._loading
        if self._loaded is not None:
            await self._loaded.batcher.stop()

    def loaded(self) -> Loaded:
        """Return the predictor and its batcher. Refused: 503, it is loading or stopping."""
        if self._loaded is None or self.state != "ready":
            raise busy(f"the model is {self.state}")
        return self._loaded

    async def _load(self) -> None:
        try:
            predictor = await asyncio.to_thread(self._load_and_try)
        except Exception as error:  # noqa: BLE001  whoever runs the server raises it again
            self.failure, self.state = error, "failed"
            self.when_failed()
            return
        batcher = Batcher(predictor, self.settings, self.figures)
        batcher.start()
        self.figures.watch(lambda: batcher.waiting)
        self._loaded = Loaded(predictor, batcher, self.settings)
        if self.state == "loading":  # a signal may have come meanwhile
            self.state = "ready"
            self.when_ready()

    def _load_and_try(self) -> "Predictor":
        """Load, and answer once: a first call is slow, and a network that cannot answer is found here."""
        predictor, blank = self.load(), BytesIO()
        Image.new("RGB", (64, 64)).save(blank, "PNG")
        predictor.logits([predictor.decode(blank.getvalue())])
        return predictor
