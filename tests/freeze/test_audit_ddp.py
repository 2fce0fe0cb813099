"""The audit in two real processes: they agree when a thaw wraps the model anew, and are caught when it does not."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.train.tiny import SETTINGS, make_job
from zoo.devices.single import Single
from zoo.errors import RunError
from zoo.freeze.thawing import gradual
from zoo.registry.builtin.freeze import GradualOptions
from zoo.train.loop import Loop

THAW = gradual(GradualOptions(thaw={"layer4": 0, "layer3": 1}))


class Two(Single):
    """Two processes on the CPU, each with data of its own. `renews` says whether a phase wraps the model anew."""

    def __init__(self, renews: bool) -> None:
        super().__init__(torch.device("cpu"), SETTINGS)
        self._renews = renews
        self._wrapped: nn.Module | None = None

    def wrap(self, module: nn.Module) -> nn.Module:
        if self._renews or self._wrapped is None:
            self._wrapped = DistributedDataParallel(module)
        return self._wrapped

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(values, value)
        return values


def train(rank: int, folder: str, port: int, renews: bool) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    job = make_job(Path(folder) / str(rank), policy=THAW, seed=rank)
    object.__setattr__(job, "strategy", Two(renews))
    said = "agreed"
    try:
        Loop(job).fit()
    except RunError as error:
        said = error.problems[0].what
    (Path(folder) / f"{rank}.txt").write_text(said)
    dist.destroy_process_group()


def run(folder: Path, renews: bool) -> list[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    torch.multiprocessing.spawn(train, (str(folder), port, renews), nprocs=2)  # type: ignore[no-untyped-call]
    return [(folder / f"{rank}.txt").read_text() for rank in (0, 1)]


@pytest.mark.slow
def test_two_processes_agree_through_a_thaw(tmp_path: Path) -> None:
    assert run(tmp_path, renews=True) == ["agreed", "agreed"]


@pytest.mark.slow
def test_a_thaw_that_one_wrapper_does_not_know_of_is_caught_in_both(tmp_path: Path) -> None:
    """The wrapper of the first phase averages only what trained then (Lightning#20340)."""
    for said in run(tmp_path, renews=False):
        when, what, names = said.split(": ")
        assert (when, what) == ("step 4", "not the same in all processes")
        assert names.startswith("backbone.layer3.")
