"""One set of loader processes: lists of keys in, batches out, and a note of every image that cannot be decoded."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from zoo.data.dataset import BadImage, ImageDataset, Key, Sample
from zoo.errors import DataError
from zoo.recipe.schema import DataTable

ENDING = 5.0
"""Seconds in which a worker whose connection was cut has ended, if that is why."""


@dataclass(frozen=True)
class Batch:
    """Images uint8 (B, 3, H, W), class indices int64 (B,), and their indices in the split, int64 (B,).

    Where features are kept, `images` are those: (B, C) or (B, C, H, W).
    """

    images: Tensor
    targets: Tensor
    indices: Tensor

    def __len__(self) -> int:
        """Return B."""
        return len(self.indices)

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory; torch's loader calls this where there is a GPU."""
        return Batch(self.images.pin_memory(), self.targets.pin_memory(), self.indices.pin_memory())


class _Plan(Sampler[list[Key]]):
    """The keys of the batches to come, set anew before each pass."""

    def __init__(self) -> None:
        self.batches: Sequence[list[Key]] = ()

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)


class Source(Protocol):
    """Where the batches of an epoch come from: decoded anew, or kept."""

    def load(self, batches: Sequence[list[Key]]) -> Iterator[Batch | None]:
        """Yield a batch for each list of keys, without its bad images; None when all are bad."""
        ...

    def load_here(self, key: Key) -> Sample | None:
        """Return one sample; None when its image is bad."""
        ...


class Loader:
    """A DataLoader whose batches are named before each pass, and the list of bad images it came upon."""

    def __init__(self, dataset: ImageDataset, table: DataTable) -> None:
        self.dataset = dataset
        self.bad: dict[int, BadImage] = {}
        self._skip = table.on_bad_image == "skip"
        self._plan = _Plan()
        self._torch: DataLoader[Sample | BadImage] = DataLoader(
            dataset,
            batch_sampler=self._plan,
            num_workers=table.workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=table.workers > 0,
            worker_init_fn=_start_worker,
            # torch draws a seed for its workers at every pass: not from the caller's generator.
            generator=torch.Generator(),
        )

    def load(self, batches: Sequence[list[Key]]) -> Iterator[Batch | None]:
        """Yield a batch for each list of keys, without its bad images; None when all are bad. DataError: see `note`."""
        self._plan.batches = batches
        with ends_named(), self._handovers(), _stops_held():
            passing = iter(self._torch)
        while True:
            try:
                with ends_named(), self._handovers():
                    batch, bad = next(passing)
            except StopIteration:
                return
            self.note(bad)
            yield batch

    @contextmanager
    def _handovers(self) -> Iterator[None]:
        """Where a worker breaks off in the middle of handing over a batch, raise what torch raises for one that ended.

        torch asks at that moment whether it is alive; the kernel cuts its connections before it says that it is not.
        """
        try:
            yield
        except (OSError, EOFError) as error:
            workers = getattr(self._torch._iterator, "_workers", ())
            sentinels = wait([worker.sentinel for worker in workers], ENDING) if workers else []
            ended = [worker for worker in workers if worker.sentinel in sentinels]
            for worker in ended:
                worker.join(ENDING)  # torch's handler raises here, if at all, and not somewhere later
            if not ended:
                raise
            names = ", ".join(str(worker.pid) for worker in ended)
            raise RuntimeError(f"DataLoader worker (pid(s) {names}) ended in the middle of a batch") from error

    def load_here(self, key: Key) -> Sample | None:
        """Return one sample, decoded in this process; None when its image is bad."""
        found = self.dataset[key]
        if isinstance(found, Sample):
            return found
        self.note([found])
        return None

    def note(self, bad: Sequence[BadImage]) -> None:
        """Remember bad images once. DataError: there are some, and none may be skipped."""
        self.bad.update((image.index, image) for image in bad)
        if bad and not self._skip:
            raise DataError(
                f"image {bad[0].identity!r} cannot be used: {bad[0].reason}",
                hint='mend or remove it, or set data.on_bad_image = "skip"',
            )

    def close(self) -> None:
        """End the worker processes; a later pass starts new ones."""
        # torch ends them when the iterator is collected, which a traceback that holds it can put off for long.
        if isinstance(self._torch._iterator, _MultiProcessingDataLoaderIter):
            with suppress(DataError), ends_named():  # one that has ended by itself is no news any more
                self._torch._iterator._shutdown_workers()
        self._torch._iterator = None


@contextmanager
def ends_named() -> Iterator[None]:
    """Where a loader process has ended, say so. DataError.

    torch raises that in the main thread whatever it is at, for as long as such processes live.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        mend = "set fewer workers: memory may be short"
        raise DataError(f"a loader process ended: {error}", "data.workers", mend) from error


def _collate(found: list[Sample | BadImage]) -> tuple[Batch | None, list[BadImage]]:
    samples = [item for item in found if isinstance(item, Sample)]
    return stack(samples) if samples else None, [item for item in found if isinstance(item, BadImage)]


def stack(samples: Sequence[Sample]) -> Batch:
    """Return the samples (at least one) as a batch."""
    return Batch(
        torch.stack([sample.image for sample in samples]),
        torch.tensor([sample.target for sample in samples]),
        torch.tensor([sample.index for sample in samples]),
    )


def _start_worker(_: int) -> None:
    """Leave stopping to the main process: Ctrl-C reaches the whole process group, and Slurm's SIGTERM every process.

    (One thread a worker: torch sets that.)
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # macOS and Windows do not say who sends a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in this thread and those that it starts
        threading.Thread(target=_obey_the_parent, daemon=True).start()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """torch looks whether a worker has been given to another process: from a fork server it never is."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _obey_the_parent() -> None:
    """End on a SIGTERM of the main process, which ends its workers so, and on nobody else's."""
    parent = multiprocessing.parent_process()
    while parent is not None:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent.pid:
            os._exit(0)


@contextmanager
def _stops_held() -> Iterator[None]:
    """Put signals off while workers start, which inherit that: one not at `_start_worker` yet would die of them."""
    if sys.platform == "win32":
        yield
        return
    held = {signal.SIGINT, signal.SIGTERM} if sys.platform == "linux" else {signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
