"""The processes of a run: whether this is one of several, and where they meet.

They are started by zoo itself (torch's elastic launch), by torchrun, or by Slurm's srun; the environment says which.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from zoo.errors import DeviceError

PORTS = (15_000, 20_000)
"""Of Slurm jobs: from the first on, by the job's number, so that two jobs on a node do not meet."""


@dataclass(frozen=True)
class World:
    """This process among all: its rank, how many there are, and the same on this machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def find_world(environment: Mapping[str, str] | None = None) -> World | None:
    """Return what a launcher says of this process, or None when nothing launched it as one of several.

    DeviceError: the environment says half of it.
    """
    environment = os.environ if environment is None else environment
    if "RANK" in environment:  # torchrun, or zoo's own launch
        return World(*(_number(environment, name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
    if "SLURM_PROCID" in environment and environment.get("SLURM_NTASKS", "1") != "1":
        local_size = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))
        return World(
            _number(environment, "SLURM_PROCID"),
            _number(environment, "SLURM_NTASKS"),
            _number(environment, "SLURM_LOCALID"),
            int(local_size.group()) if local_size else 1,
        )
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except (KeyError, ValueError):
        what = f"the environment says {name}={environment.get(name)!r}, and a number is needed"
        raise DeviceError(what, hint="start it with torchrun or srun, or unset RANK") from None


def meeting_point(environment: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Return the address and port where the processes meet: MASTER_ADDR and MASTER_PORT, or what Slurm says.

    Under Slurm it is the first node of the step, and a port of the job's own. DeviceError: neither says it.
    """
    environment = os.environ if environment is None else environment
    if "MASTER_ADDR" in environment:
        return environment["MASTER_ADDR"], _number(environment, "MASTER_PORT")
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or ""
    first, job = first_node(nodes), environment.get("SLURM_JOB_ID", "0")
    if not first:
        what = "nothing says where the processes meet: MASTER_ADDR is not set"
        raise DeviceError(what, hint="start it with torchrun or srun")
    return first, PORTS[0] + int(job) % (PORTS[1] - PORTS[0])


def first_node(nodes: str) -> str:
    """Return the first host of Slurm's list: "node[03-07,12],other" begins with node03."""
    found = re.match(r"([^,\[]*)(?:\[([^],-]+)[^]]*\])?([^,]*)", nodes)
    return "".join(part or "" for part in found.groups()) if found else ""


def share_cores(world: World) -> None:
    """Use as many threads as this process's part of the machine's cores, unless OMP_NUM_THREADS says how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // world.local_size))
