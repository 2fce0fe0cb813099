"""How processes meet, and which of them still answer when a collective has failed.

Both go through torch's key-value store. A launcher that replaces processes keeps its store, with the addresses of those
that are gone: so each meeting has a name of its own, and keys below it.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import torch.distributed as dist

from zoo.devices.world import World, meeting_point
from zoo.errors import DeviceError

Store = Any
"""torch.distributed.Store, which torch's own types do not name."""

_MEETING = "ZOO_MEETING"
"""The environment variable that keeps the meeting's name."""


def join(world: World, timeout: int, cuda: bool) -> None:
    """Meet the other processes, unless that is done. DeviceError: they have not all come in `timeout` seconds.

    Tensors on the CPU always travel by gloo: what is no matter of the device waits for none.
    """
    if dist.is_initialized():
        return
    try:
        store = _store(timeout, hosts=world.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True")
        os.environ[_MEETING] = name = _agree(store, world, timeout)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=dist.PrefixStore(name, store),  # type: ignore[attr-defined]
            rank=world.rank,
            world_size=world.size,
            timeout=timedelta(seconds=timeout),
        )
    except dist.DistError as error:
        what = f"process {world.rank} of {world.size} has not met the others: {str(error).splitlines()[0]}"
        raise DeviceError(what, hint="are all of them started, and can they reach MASTER_ADDR?") from error


def _store(timeout: float, hosts: bool = False) -> Store:
    address, port = meeting_point()
    store: Store = dist.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=hosts, timeout=timedelta(seconds=timeout), multi_tenant=True, wait_for_workers=False
    )
    return store


def _agree(store: Store, world: World, timeout: float) -> str:
    """Return the meeting's name. Rank 0 tells it to each process under a key that no earlier one can have known."""
    mine = uuid4().hex
    if world.rank:
        store.set(f"zoo/hello/{world.rank}", mine)
        name: str = store.get(f"zoo/answer/{mine}").decode()
        store.set(f"zoo/{name}/{world.rank}", "")
        return name

    def is_here(rank: int) -> bool:
        if store.check([f"zoo/hello/{rank}"]):  # perhaps of one that is gone: the next may be another
            store.set(f"zoo/answer/{store.get(f'zoo/hello/{rank}').decode()}", mine)
        return bool(store.check([f"zoo/{mine}/{rank}"]))

    missing = _wait(is_here, list(range(1, world.size)), timeout)
    if missing:
        what = f"process {' and '.join(map(str, missing))} of {world.size} has not come in {timeout:.0f} s"
        raise DeviceError(what, hint="start all of them, and set device.timeout to how long that may take")
    return mine


def _wait(is_here: Callable[[int], bool], ranks: list[int], seconds: float) -> list[int]:
    """Return those of `ranks` that are not there after so many seconds."""
    end = monotonic() + seconds
    while (ranks := [rank for rank in ranks if not is_here(rank)]) and monotonic() < end:
        sleep(0.05)
    return ranks


def is_of_collectives(error: RuntimeError) -> bool:
    """Return whether the error is torch.distributed's: gloo's have no class of their own."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Gloo"))


def find_silent(rank: int, processes: int, seconds: float) -> list[int]:
    """Return the ranks that do not say within `seconds` that they are there; every process that is must call it.

    The store where they met is asked; where even that has gone, with rank 0, it is rank 0.
    """
    try:
        store, name = _store(seconds), os.environ[_MEETING]
        store.set(f"zoo/{name}/here/{rank}", "")
        others = [other for other in range(processes) if other != rank]
        return _wait(lambda other: bool(store.check([f"zoo/{name}/here/{other}"])), others, seconds)
    except RuntimeError:
        return [0]
