"""What a server counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

TEXT = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Figures:
    """Counts of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "zoo_requests", "Requests, by path and status.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "zoo_request_seconds",
            "Seconds from a request's headers to the end of its answer, by path.",
            ["path"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._batch = Histogram(
            "zoo_batch_size", "Images that went through the network together.", buckets=SIZES, registry=self._registry
        )
        self._queue = Gauge("zoo_queue_length", "Images that wait or are worked on.", registry=self._registry)

    def watch(self, waiting: Callable[[], int]) -> None:
        """Ask `waiting` for the queue's length when the figures are read."""
        self._queue.set_function(waiting)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, images: int) -> None:
        """Count images that went through the network together."""
        self._batch.observe(images)

    def text(self) -> bytes:
        """Return all in Prometheus's text format, version 0.0.4."""
        return generate_latest(self._registry)
