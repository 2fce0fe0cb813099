"""Heads that do not train: what they say about the validation images, compared to the last bit."""

import hashlib
from collections.abc import Iterable, Mapping

from torch import Tensor


class Watch:
    """Digests the logits of some heads as they come."""

    def __init__(self, heads: Iterable[str]) -> None:
        self._hashes = {name: hashlib.sha256() for name in heads}

    def __call__(self, logits: Mapping[str, Tensor]) -> None:
        """Take in every head's logits (B, K) of a batch."""
        for name, found in self._hashes.items():
            found.update(logits[name].detach().float().cpu().contiguous().numpy().tobytes())

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each head's logits so far, in float32."""
        return {name: found.hexdigest() for name, found in self._hashes.items()}
