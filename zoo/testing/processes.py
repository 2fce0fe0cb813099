"""Several real processes that meet, started as a launcher starts them; each gives back what a function returns."""

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.multiprocessing.spawn import start_processes

PRELOADED = ("zoo.run",)
"""What the server of new processes imports once for all of them."""


def together(
    folder: Path, processes: int, function: Callable[..., Any], *args: Any, preload: Sequence[str] = PRELOADED
) -> list[Any]:
    """Return what `function(*args)` gives in each of the processes, by rank; `folder` is for their answers."""
    folder.mkdir(parents=True, exist_ok=True)
    # Where they meet: a port that was only found free might be another's by the time that they are there.
    meeting = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    multiprocessing.set_forkserver_preload(list(preload))
    handed = (str(folder), processes, meeting.port, function, args)
    start_processes(_begin, handed, processes, start_method="forkserver")  # type: ignore[no-untyped-call]
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(processes)]


def _begin(rank: int, folder: str, processes: int, port: int, function: Callable[..., Any], args: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
    found = function(*args)
    (Path(folder) / f"{rank}.pickle").write_bytes(pickle.dumps(found))
