"""`zoo devices`: what it prints, for a listing that is made up and for this machine."""

import json
import os
from dataclasses import replace
from platform import python_version

import pytest
import torch

from zoo import __version__
from zoo.cli.devices import head_lines
from zoo.devices import listing
from zoo.devices.listing import Cpu, Gpu, Listing, Means, Usable, count_cores
from zoo.devices.world import World

MEANS = Means(
    gpus=2,
    mps=False,
    torch="2.9.0",
    distributed=True,
    gloo=True,
    nccl=True,
    fully_shard=True,
    triton=True,
    cxx="g++",
    has_cxx=True,
    world=None,
)
GPUS = Listing(
    gpus=(
        Gpu("cuda:0", "2", "NVIDIA A100-SXM4-40GB", 42_298_834_944, True),
        Gpu("cuda:1", "3", "Tesla V100-SXM2-16GB", 16_935_682_048, False),
    ),
    visible="2,3",
    no_gpu="",
    cpu=Cpu("Some CPU", 8, 4, True),
    means=MEANS,
    strategies=(
        Usable("single", True, 'device = "auto" takes cuda:0'),
        Usable("ddp", False, "torch 2.9.0 is built without torch.distributed"),
    ),
    keys=(Usable("compile", True, "Triton compiles for the GPUs"),),
)
VERSIONS = ("zoo", f"{__version__}, torch 2.9.0, Python {python_version()}")
HERE = ("cpu", "Some CPU, 8 cores, 4 threads, bf16")
BY_ITSELF = ("started", "by itself, not by torchrun or srun")


def test_the_whole_text(zoo, monkeypatch):
    monkeypatch.setattr(listing, "list_here", lambda registry: GPUS)
    assert zoo("devices") == (
        0,
        f"zoo          {__version__}, torch 2.9.0, Python {python_version()}\n"
        "cuda:0       NVIDIA A100-SXM4-40GB, 39.4 GiB, bf16; cuda:0 is GPU 2 (CUDA_VISIBLE_DEVICES=2,3)\n"
        "cuda:1       Tesla V100-SXM2-16GB, 15.8 GiB, no bf16 of its own; cuda:1 is GPU 3 (CUDA_VISIBLE_DEVICES=2,3)\n"
        "cpu          Some CPU, 8 cores, 4 threads, bf16\n"
        "started      by itself, not by torchrun or srun\n"
        "\n"
        'single   yes  device = "auto" takes cuda:0\n'
        "ddp      no   torch 2.9.0 is built without torch.distributed\n"
        "compile  yes  Triton compiles for the GPUs\n",
        "",
    )


def test_without_a_gpu_it_says_why():
    found = replace(GPUS, gpus=(), visible=None, no_gpu="torch 2.9.0 is built without CUDA")
    assert head_lines(found) == [VERSIONS, ("gpu", "none: torch 2.9.0 is built without CUDA"), HERE, BY_ITSELF]
    mac = replace(found, means=replace(MEANS, gpus=0, mps=True))
    assert head_lines(mac) == [VERSIONS, ("mps", "Apple's GPU, in the machine's own memory"), HERE, BY_ITSELF]


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (World(1, 2, 1, 2), "by torchrun or srun, as process 1 of 2 (counted from 0)"),
        (World(3, 4, 1, 2), "by torchrun or srun, as process 3 of 4, 1 of 2 on this machine (counted from 0)"),
    ],
)
def test_it_says_what_a_launcher_says(world, words):
    assert head_lines(replace(GPUS, means=replace(MEANS, world=world)))[-1] == ("started", words)


def test_this_machine(zoo):
    status, out, err = zoo("devices", "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["means"]["torch"] == torch.__version__
    assert found["cpu"]["cores"] == count_cores() <= (os.cpu_count() or 1)
    assert len(found["gpus"]) == found["means"]["gpus"] == torch.cuda.device_count()
    assert [row["name"] for row in found["strategies"]][:4] == ["single", "data-parallel", "ddp", "fsdp"]
    assert found["strategies"][0]["summary"] == "one device: cuda, mps or cpu"
    status, out, err = zoo("devices")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if line][-2:] == ["sync_batchnorm", "compile"]
