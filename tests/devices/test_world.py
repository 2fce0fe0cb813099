"""What a launcher says of a process, and where the processes meet."""

import os
from collections.abc import Iterator

import pytest
import torch

from zoo.devices.world import World, find_world, first_node, meeting_point, share_cores
from zoo.errors import DeviceError

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}


@pytest.mark.parametrize(
    ("environment", "world"),
    [
        (TORCHRUN, World(rank=5, size=8, local_rank=1, local_size=4)),
        (SLURM, World(rank=3, size=4, local_rank=1, local_size=2)),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "1(x2),2", "SLURM_NODEID": "2"}, World(3, 4, 1, 2)),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "4"}, World(3, 4, 1, 4)),
        ({**SLURM, **TORCHRUN}, World(5, 8, 1, 4)),  # torchrun, started by srun
        ({}, None),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}, None),  # a batch script
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, None),  # salloc: nothing is started yet
        ({"WORLD_SIZE": "8", "MASTER_ADDR": "host"}, None),
    ],
)
def test_what_the_environment_says(environment: dict[str, str], world: World | None) -> None:
    assert find_world(environment) == world


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"])
def test_what_cannot_be(name: str) -> None:
    world = {**TORCHRUN, name: "9"}
    with pytest.raises(DeviceError) as caught:
        find_world(world)
    assert str(caught.value) == (
        f"the environment says that this is process {world['RANK']} of 8, {world['LOCAL_RANK']} of "
        f"{world['LOCAL_WORLD_SIZE']} here\n  mend:  start it with torchrun or srun"
    )


def test_it_is_this_process_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_") or name in TORCHRUN]:
        monkeypatch.delenv(name)
    assert find_world() is None
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "node7")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert find_world() == World(5, 8, 1, 4)
    assert meeting_point() == ("node7", 29500)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RANK": "1"}, "WORLD_SIZE=None"),
        ({**TORCHRUN, "RANK": ""}, "RANK=''"),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "two"}, "LOCAL_WORLD_SIZE='two'"),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4"}, "SLURM_LOCALID=None"),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "4(x2)"}, "SLURM_STEP_NUM_TASKS='4(x2)'"),
    ],
)
def test_half_of_it(environment: dict[str, str], said: str) -> None:
    with pytest.raises(DeviceError) as caught:
        find_world(environment)
    assert str(caught.value) == (
        f"the environment says {said}, and a number is needed\n  mend:  start it with torchrun or srun"
    )


@pytest.mark.parametrize(
    ("environment", "point"),
    [
        ({"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"}, ("10.0.0.1", 1234)),
        ({"MASTER_ADDR": "a", "MASTER_PORT": "1", "SLURM_STEP_NODELIST": "b", "SLURM_JOB_ID": "3"}, ("a", 1)),
        ({"SLURM_STEP_NODELIST": "n[03-07]", "SLURM_JOB_NODELIST": "n[01-07]", "SLURM_JOB_ID": "3"}, ("n03", 15_003)),
        ({"SLURM_STEP_NODELIST": "", "SLURM_JOB_NODELIST": "n[01-07]", "SLURM_JOB_ID": "5000"}, ("n01", 15_000)),
        ({"SLURM_JOB_NODELIST": "host", "SLURM_JOB_ID": "123454999"}, ("host", 19_999)),
    ],
)
def test_where_they_meet(environment: dict[str, str], point: tuple[str, int]) -> None:
    assert meeting_point(environment) == point


UNSAID = "nothing says where the processes meet: MASTER_ADDR is not set\n  mend:  start it with torchrun or srun"
HALF = "the environment says MASTER_PORT=None, and a number is needed\n  mend:  start it with torchrun or srun"
JOB = "the environment says SLURM_JOB_ID='x', and a number is needed\n  mend:  start it with torchrun or srun"


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({}, UNSAID),
        ({"SLURM_JOB_ID": "7"}, UNSAID),
        ({"MASTER_ADDR": "a"}, HALF),
        ({"SLURM_JOB_NODELIST": "host", "SLURM_JOB_ID": "x"}, JOB),
    ],
)
def test_nowhere_to_meet(environment: dict[str, str], text: str) -> None:
    with pytest.raises(DeviceError) as caught:
        meeting_point(environment)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node[03-07,12],other", "node03"),
        ("node[12,03-07]", "node12"),
        ("a,b", "a"),
        ("a,b[1-2]", "a"),
        ("host", "host"),
        ("gpu-[1,3]-x", "gpu-1-x"),
        ("gpu-[1-3]-x,gpu-[5-6]-y", "gpu-1-x"),
        ("ip-10-0-0-1.ec2.internal,ip-10-0-0-2.ec2.internal", "ip-10-0-0-1.ec2.internal"),
        ("rack[0-1]_blade[3-4],x", "rack0_blade3"),
        ("", ""),
    ],
)
def test_the_first_of_slurms_nodes(nodes: str, first: str) -> None:
    assert first_node(nodes) == first


@pytest.fixture
def eight_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr("zoo.devices.world.THREADS", 8)
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("eight_threads")
@pytest.mark.parametrize(("here", "threads"), [(1, 8), (2, 4), (3, 2), (9, 1)])
def test_the_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch, here: int, threads: int) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for _ in range(2):  # a strategy may be made twice
        share_cores(World(0, 16, 0, here))
        assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("eight_threads")
def test_the_user_says_how_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    share_cores(World(0, 2, 0, 2))
    assert torch.get_num_threads() == 8
