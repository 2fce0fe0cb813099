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


START = "start it with torchrun or srun"


THREADS = torch.get_num_threads()
"""What one process would use."""


@dataclass(frozen=True)
class World:
    """This process among all: its rank, how many there are, and the same on this machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def find_world(environment: Mapping[str, str] | None = None) -> World | None:
    """Return what a launcher says of this process, or None when nothing launched it as one of several.

    DeviceError: the environment says half of it, or what cannot be.
    """
    environment = os.environ if environment is None else environment
    if "RANK" in environment:  # torchrun, or zoo's own launch
        world = World(
            *(_number(environment, name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"))
        )
    # A batch script has no step: it is no process of srun's.
    elif "SLURM_STEP_ID" in environment and environment.get("SLURM_STEP_NUM_TASKS") != "1":
        slurm = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        rank, size, local_rank = (_number(environment, name) for name in slurm)
        world = World(rank, size, local_rank, _tasks_here(environment, size))
    else:
        return None
    if not (0 <= world.rank < world.size and 0 <= world.local_rank < world.local_size <= world.size):
        what = f"the environment says that this is process {world.rank} of {world.size}"
        raise DeviceError(f"{what}, {world.local_rank} of {world.local_size} here", hint=START)
    return world


def _tasks_here(environment: Mapping[str, str], size: int) -> int:
    """How many processes this node has, of Slurm's list: "4(x2),1" is 4, 4 and 1."""
    listed = environment.get("SLURM_STEP_TASKS_PER_NODE", str(size))
    counts = [count for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", listed) for _ in range(int(times or 1))]
    node = _number(environment, "SLURM_NODEID") if len(counts) > 1 else 0
    return int(counts[node]) if node < len(counts) else size


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except (KeyError, ValueError):
        what = f"the environment says {name}={environment.get(name)!r}, and a number is needed"
        raise DeviceError(what, hint=START) from None


def meeting_point(environment: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Return the address and port where the processes meet: MASTER_ADDR and MASTER_PORT, or what Slurm says.

    Under Slurm it is the first node of the step, and a port of the job's own. DeviceError: neither says it.
    """
    environment = os.environ if environment is None else environment
    if "MASTER_ADDR" in environment:
        return environment["MASTER_ADDR"], _number(environment, "MASTER_PORT")
    first = first_node(environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or "")
    if not first:
        raise DeviceError("nothing says where the processes meet: MASTER_ADDR is not set", hint=START)
    return first, PORTS[0] + _number(environment, "SLURM_JOB_ID") % (PORTS[1] - PORTS[0])


def first_node(nodes: str) -> str:
    """Return the first host of Slurm's list: "node[03-07,12],other" begins with node03."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[([^],-]+)[^]]*\]", r"\1", first.group()) if first else ""


def share_cores(world: World) -> None:
    """Use as many threads as this process's part of the machine's cores, unless OMP_NUM_THREADS says how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, THREADS // world.local_size))
