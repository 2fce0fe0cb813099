"""What a server allows, and how it batches."""

import os
from dataclasses import dataclass

MEGABYTE = 1_000_000
MAX_BYTES = 20
"""Of an upload, in MB. A phone's photo has 2 to 12."""
MAX_PIXELS = 50_000_000
"""Of an image, from its header. A phone's photo has 12 to 50 million; decoded they take 3 bytes each."""
DECODERS = max(2, min(8, (os.cpu_count() or 2) // 2))
"""Threads. Pillow lets go of Python's lock while it decodes, and the network has threads of its own."""
PILLOWS_PIXELS = 178_956_970
"""Where Pillow itself refuses."""


@dataclass(frozen=True)
class Settings:
    """`max_bytes` of a request's body and `max_pixels` of an image; `batch` images through the network at once.

    `wait` is how long a batch is held open for others, in seconds. `timeout`, in seconds, is for a client to send its
    headers, for it to send its body, and for the answer. `queue` images may wait at once, decoded or not. `decoders`
    threads decode, until decoded images that wait have `max_decoded` bytes.
    """

    max_bytes: int = MAX_BYTES * MEGABYTE
    max_pixels: int = MAX_PIXELS
    batch: int = 32
    wait: float = 0.005
    timeout: float = 30.0
    queue: int = 128
    decoders: int = DECODERS
    max_decoded: int = 512 * MEGABYTE

    @property
    def max_held(self) -> int:
        """Bytes of all uploads that are in memory at once, whole or not."""
        return max(256 * MEGABYTE, 4 * self.max_bytes)
