"""Which processes still answer, asked beside the collectives, which no longer work when one is lost."""

from datetime import timedelta
from time import monotonic, sleep

import torch.distributed as dist

from zoo.devices.world import meeting_point


def is_of_collectives(error: RuntimeError) -> bool:
    """Return whether the error is torch.distributed's: gloo's have no class of their own."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Gloo"))


def find_silent(rank: int, processes: int, seconds: float) -> list[int]:
    """Return the ranks that do not say within `seconds` that they are there; every process that is must call it.

    The store where the processes met is asked; where even that has gone, with rank 0, it is rank 0.
    """
    address, port = meeting_point()
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            address, port, is_master=False, timeout=timedelta(seconds=seconds)
        )
        store.set(f"zoo/here/{rank}", "")
        missing = [other for other in range(processes) if other != rank]
        end = monotonic() + seconds
        while missing and monotonic() < end:
            sleep(0.1)
            missing = [other for other in missing if not store.check([f"zoo/here/{other}"])]
        return missing
    except RuntimeError:
        return [0]
