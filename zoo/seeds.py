"""Every random choice of a run is a pure function of (seed, epoch, step, index): nothing to save, nothing to drift."""

from hashlib import blake2b


def derive(seed: int, *path: int | str) -> int:
    """Return a seed in [0, 2**63) for the choice named by `path`, e.g. `derive(0, "order", epoch)`.

    Different paths give independent seeds; the same path gives the same seed on any machine and worker count.
    """
    text = "/".join([str(int(seed)), *(str(part) for part in path)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
