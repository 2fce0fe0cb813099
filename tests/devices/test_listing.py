"""What is here, with stand-ins for what is not: GPUs, another torch, a launcher."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from zoo import __version__
from zoo.devices import listing
from zoo.devices.listing import (
    Gpu,
    Means,
    Usable,
    cpu_model,
    describe_machine,
    find_gpus,
    find_means,
    judge_keys,
    judge_strategies,
    list_here,
    why_no_gpu,
)
from zoo.devices.world import World
from zoo.errors import DeviceError
from zoo.registry import hookimpl, load_registry
from zoo.registry.discovery import Candidate, Owner
from zoo.registry.parts import DevicePart

CPU = Means(
    gpus=0,
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
GPUS = replace(CPU, gpus=2)
LAUNCHED = replace(GPUS, world=World(1, 2, 1, 2))
STRATEGIES = ("single", "data-parallel", "ddp", "fsdp")


def verdicts(registry, means):
    return {usable.name: (usable.usable, usable.note) for usable in judge_strategies(registry, means)}


def test_on_a_cpu(registry):
    several = (True, "one process; devices = N starts N of them on the CPU, by gloo")
    assert verdicts(registry, CPU) == {
        "single": (True, 'device = "auto" takes cpu'),
        "data-parallel": (True, "runs as single does: to gain anything it needs 2 or more GPUs"),
        "ddp": several,
        "fsdp": several,
    }


def test_on_gpus(registry):
    several = (True, "a process for each GPU, here 2, by nccl")
    assert verdicts(registry, GPUS) == {
        "single": (True, 'device = "auto" takes cuda:0'),
        "data-parallel": (True, "a batch is split over 2 GPUs"),
        "ddp": several,
        "fsdp": several,
    }


def test_on_a_mac(registry):
    found = verdicts(registry, replace(CPU, mps=True))
    assert found["single"] == (True, 'device = "auto" takes mps')
    assert found["ddp"] == (
        True,
        'one process; devices = N starts N of them on the CPU (device = "cpu"), by gloo',
    )


def test_as_one_of_several_processes(registry):
    alone, several = (
        (False, "this is one of 2 processes, and it takes one"),
        (True, "as the 2 processes that were launched"),
    )
    assert verdicts(registry, LAUNCHED) == dict(zip(STRATEGIES, (alone, alone, several, several), strict=True))


@pytest.mark.parametrize(
    ("means", "note"),
    [
        (replace(CPU, distributed=False), "torch 2.9.0 is built without torch.distributed"),
        (
            replace(CPU, gloo=False),
            "torch 2.9.0 is built without gloo, by which processes exchange what is on the CPU",
        ),
        (
            replace(GPUS, nccl=False),
            'torch 2.9.0 is built without nccl, by which GPUs exchange tensors; use device = "cpu"',
        ),
    ],
)
def test_what_several_processes_lack(registry, means, note):
    found = verdicts(registry, means)
    assert found["ddp"] == found["fsdp"] == (False, note)
    assert found["single"][0]


def test_a_torch_without_fully_shard(registry):
    found = verdicts(registry, replace(CPU, fully_shard=False))
    assert found["fsdp"] == (False, "torch 2.9.0 has no fully_shard; it needs 2.6 or newer")
    assert found["ddp"][0]


@pytest.mark.parametrize(
    ("means", "sync", "compiled"),
    [
        (CPU, (False, "needs GPUs, for ddp and fsdp to share statistics"), (True, "g++ compiles for the CPU")),
        (
            replace(CPU, has_cxx=False),
            (False, "needs GPUs, for ddp and fsdp to share statistics"),
            (False, "needs a C++ compiler for the CPU, and g++ is not here; CXX can name another"),
        ),
        (GPUS, (True, "ddp and fsdp share batch statistics"), (True, "Triton compiles for the GPUs")),
        (
            replace(GPUS, triton=False, nccl=False),
            (False, 'torch 2.9.0 is built without nccl, by which GPUs exchange tensors; use device = "cpu"'),
            (False, "needs Triton: pip install triton"),
        ),
    ],
)
def test_keys(means, sync, compiled):
    assert judge_keys(means) == (Usable("sync_batchnorm", *sync), Usable("compile", *compiled))


def plugin(name, *parts):
    class Plugin:
        @hookimpl
        def zoo_device_strategies(self):
            return parts

    return Candidate(Owner(f"dist-{name}", "1.0", name), Plugin)


def test_plugins_strategies_come_last_by_their_summary():
    mine = DevicePart("mine", build="zoo.devices.single:build", summary="a device of mine")
    ring = DevicePart("a-ring", build="zoo.devices.ddp:build", summary="processes in a ring", processes=True)
    broken = DevicePart("broken", build="no_such_module:build", summary="it is not there")
    registry = load_registry(candidates=[plugin("a", mine, ring, broken)])
    found = judge_strategies(registry, CPU)
    assert [usable.name for usable in found] == [*STRATEGIES, "a-ring", "broken", "mine"]
    assert found[-3:] == (
        Usable("a-ring", True, "processes in a ring", "processes in a ring", "a (dist-a 1.0)"),
        Usable(
            "broken",
            False,
            "device 'broken' cannot be built: No module named 'no_such_module': "
            "install what the plugin needs, or report this to its author",
        ),
        Usable("mine", True, "a device of mine", "a device of mine", "a (dist-a 1.0)"),
    )
    launched = verdicts(registry, LAUNCHED)
    assert (launched["mine"][0], launched["a-ring"][0]) == (False, True)


def test_a_clash_is_said():
    other = DevicePart("ddp", build="zoo.devices.ddp:build")
    found = verdicts(load_registry(candidates=[plugin("a", other)]), CPU)
    assert found["ddp"] == (
        False,
        f"device 'ddp' is offered by zoo (zoo-finetune {__version__}) and a (dist-a 1.0): leave one out with `-p no:a`",
    )


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs: one computes in bf16, the other does not."""
    properties = [
        SimpleNamespace(name="NVIDIA A100-SXM4-40GB", total_memory=42_298_834_944, major=8),
        SimpleNamespace(name="Tesla V100-SXM2-16GB", total_memory=16_935_682_048, major=7),
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(properties))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties[index])


def test_gpus_and_their_numbers(two_gpus):
    first = Gpu("cuda:0", None, "NVIDIA A100-SXM4-40GB", 42_298_834_944, True)
    second = Gpu("cuda:1", None, "Tesla V100-SXM2-16GB", 16_935_682_048, False)
    assert find_gpus(None) == (first, second)
    assert find_gpus("2, 3") == (replace(first, number="2"), replace(second, number="3"))
    assert find_gpus("GPU-7d1,GPU-8e2,GPU-9f3")[1].number == "GPU-8e2"
    assert describe_machine(True).startswith("1 × NVIDIA A100-SXM4-40GB, 1 × Tesla V100-SXM2-16GB, ")


def test_all_of_it_with_gpus(two_gpus, registry):
    found = list_here(registry, {"CUDA_VISIBLE_DEVICES": "2,3"})
    assert (found.means.gpus, found.no_gpu, found.visible) == (2, "", "2,3")
    assert [gpu.number for gpu in found.gpus] == ["2", "3"]


def test_without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_gpus("0,1") == ()
    assert describe_machine(True) == describe_machine(False)


@pytest.mark.parametrize(
    ("built_for", "visible", "why"),
    [
        (None, None, "torch 2.9.0 is built without CUDA"),
        ("13.0", "", 'CUDA_VISIBLE_DEVICES="" hides them'),
        ("13.0", "-1", 'CUDA_VISIBLE_DEVICES="-1" hides them'),
        ("13.0", None, "torch 2.9.0 finds no GPU, or no driver for one"),
        ("13.0", "9", "torch 2.9.0 finds no GPU, or no driver for one, with CUDA_VISIBLE_DEVICES=9"),
    ],
)
def test_why_there_is_no_gpu(built_for, visible, why):
    assert why_no_gpu("2.9.0", built_for, visible) == why


def test_the_cpus_name(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\n" * 2)
    assert cpu_model(info) == "Some CPU @ 2 GHz"
    monkeypatch.setattr(listing.platform, "processor", lambda: "")
    monkeypatch.setattr(listing.platform, "machine", lambda: "aarch64")
    info.write_text("processor\t: 0\n")
    assert cpu_model(info) == cpu_model(tmp_path / "none") == "aarch64"


def test_what_the_environment_says(monkeypatch):
    launched = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert find_means(launched).world == World(1, 4, 1, 2)
    found = find_means({"CXX": "no-such-compiler --fast"})
    assert (found.cxx, found.has_cxx, found.world) == ("no-such-compiler --fast", False, None)
    with pytest.raises(DeviceError):
        find_means({"RANK": "1"})
