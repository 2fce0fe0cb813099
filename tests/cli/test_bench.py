"""`zoo bench`: the table, its refusals, and the real steps; processes of its own are started only where it is slow."""

import json
import signal
from dataclasses import replace
from functools import partial
from itertools import chain
from tempfile import TemporaryDirectory

import pytest
import torch

from tests.runs.conftest import photos, recipe
from zoo import __version__
from zoo.devices.listing import describe_machine
from zoo.devices.single import available
from zoo.devices.world import World
from zoo.errors import DeviceError
from zoo.recipe import load_recipe
from zoo.registry.contracts import DeviceSettings
from zoo.run import bench as benching
from zoo.run.bench import WARM, Bench, Row, bench, with_strategy
from zoo.run.launching import ProcessFault

__all__ = ["photos", "recipe"]  # the fixtures

only_cpu = pytest.mark.skipif(available() != ["cpu"], reason="a faster device is here")
MEASURED = benching._Measured(
    rates=(90.0, 100.0, 250.0),
    memory=3 << 29,
    first_step=4.26,
    device="cpu",
    model="timm/test_resnet",
    size=(32, 32),
    kept=False,
)
FIXED = DeviceSettings("cpu", "fp32", False)


@pytest.fixture
def processes(monkeypatch):
    """Stand in for the processes: each strategy gives what is listed for it; return what they were asked."""
    asked = []

    def start(answers):
        def run_processes(task, count, *, fresh):
            name = "rehearsal" if task.func is benching._find_settings else task.args[0].device.part.name
            asked.append((name, count, fresh))
            answer = {"rehearsal": FIXED, **answers}[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(benching, "run_processes", run_processes)
        return asked

    return start


def test_the_whole_text(zoo, recipe, processes):
    asked = processes(
        {
            "single": MEASURED,
            "data-parallel": None,
            "ddp": replace(MEASURED, rates=(120.0, 121.0), memory=5 << 30, first_step=12.0),
            "fsdp": ProcessFault("process 1:\nTraceback\ntorch.OutOfMemoryError: CUDA out of memory.\n"),
        }
    )
    status, out, err = zoo(
        "bench", recipe, "--strategies", "single,data-parallel, ddp,fsdp,single", "--steps", 3, "--devices", 3
    )
    assert (status, err) == (0, "")
    assert out == (
        "measuring    single, 1 process\n"
        "measuring    data-parallel, 1 process\n"
        "measuring    ddp, 3 processes\n"
        "measuring    fsdp, 3 processes\n"
        "\n"
        f"machine      {describe_machine(False)}\n"
        f"versions     zoo {__version__}, torch {torch.__version__}\n"
        "model        timm/test_resnet, fp32\n"
        "batch        8 images of 32 × 32 px, over all processes\n"
        "images/s     the median of 3 steps, in the recipe's first freeze phase\n"
        "memory       the peak resident set, summed over the processes (loader workers not counted)\n"
        "first step   seconds from the start of a process to the end of its first step, imports included\n"
        "\n"
        "strategy       processes  images/s  relative    memory  first step\n"
        "single                 1     100.0      1.00  1.50 GiB       4.3 s\n"
        "data-parallel          –         –         –         –           –"
        "  a process was killed: memory may be short\n"
        "ddp                    3     120.5      1.21  5.00 GiB      12.0 s\n"
        "fsdp                   –         –         –         –           –"
        "  torch.OutOfMemoryError: CUDA out of memory.\n"
    )
    assert asked == [
        ("rehearsal", 1, True),
        ("single", 1, True),
        ("data-parallel", 1, True),
        ("ddp", 3, True),
        ("fsdp", 3, True),
    ]


def test_gpus_and_kept_features_are_said():
    from zoo.cli.bench import head_lines, table_rows

    row = Row("ddp", 2, 1000.0, 1.0, 1 << 30, 20.0)
    found = Bench("2 × GPU", "0.1.0", "2.9.0", "timm/a", 64, (64, 96), "bf16", 5, "allocated", True, (row,))
    assert list(head_lines(found))[3:] == [
        ("batch", "64 images of 64 × 96 px, over all processes"),
        ("images/s", "the median of 5 steps, in the recipe's first freeze phase"),
        ("features", "of the frozen backbone are kept: the steps are those of the heads alone"),
        ("memory", "the peak that torch allocated on the GPUs, summed over the processes"),
        ("first step", "seconds from the start of a process to the end of its first step, imports included"),
    ]
    assert table_rows(found)[1] == ("ddp", "        2", "  1000.0", "    1.00", "1.00 GiB", "    20.0 s", "")


@only_cpu
def test_all_that_can_be_used_are_measured_unless_some_are_named(recipe, registry, processes):
    asked = processes(dict.fromkeys(("single", "data-parallel", "ddp", "fsdp"), MEASURED))
    bench(load_recipe(recipe, registry), registry)
    assert [name for name, _, _ in asked] == ["rehearsal", "single", "data-parallel", "ddp", "fsdp"]


def test_one_that_cannot_be_used_says_so_and_starts_nothing(recipe, registry, processes, monkeypatch):
    means = replace(benching.find_means(), gloo=False)
    monkeypatch.setattr(benching, "find_means", lambda: means)
    asked = processes({"single": MEASURED})
    found = bench(load_recipe(recipe, registry), registry, ["ddp", "single"])
    why = f"torch {torch.__version__} is built without gloo, by which processes exchange what is on the CPU"
    assert found.rows == (Row("ddp", why_not=why), Row("single", 1, 100.0, 1.0, 3 << 29, 4.26))
    assert [name for name, _, _ in asked] == ["rehearsal", "single"]


@only_cpu
def test_devices_are_for_strategies_that_take_several(recipe, registry):
    resolved = load_recipe(recipe, registry, ['device.use="ddp"', "device.timeout=77", "device.devices=5"])
    chosen = {name: with_strategy(resolved, registry, name, None).device for name in ("single", "ddp", "fsdp")}
    assert {name: one.common.devices for name, one in chosen.items()} == {"single": "auto", "ddp": 5, "fsdp": 5}
    assert (chosen["ddp"].options.timeout, chosen["fsdp"].options.timeout) == (77, 600)
    assert with_strategy(resolved, registry, "ddp", 3).device.common.devices == 3
    assert with_strategy(resolved, registry, "data-parallel", 3).device.common.devices == "auto"
    assert with_strategy(load_recipe(recipe, registry), registry, "ddp", None).device.common.devices in (1, 2)


@pytest.mark.parametrize(
    ("strategies", "message"),
    [
        (
            "dpp,singel,ddp",
            "error: there is no device 'dpp'\n  mend:  did you mean 'ddp'?\n"
            "error: there is no device 'singel'\n  mend:  did you mean 'single'?\n2 errors\n",
        ),
        (",", "error: there are no strategies to measure\n  mend:  name some, or leave out --strategies\n"),
    ],
)
def test_strategies_that_do_not_exist(zoo, recipe, strategies, message):
    assert zoo("bench", recipe, "--strategies", strategies) == (2, "", message)


def test_a_launched_process_is_refused(zoo, recipe, monkeypatch):
    means = replace(benching.find_means(), world=World(0, 2, 0, 2))
    monkeypatch.setattr(benching, "find_means", lambda: means)
    assert zoo("bench", recipe) == (
        2,
        "",
        "error: this process was started by torchrun or srun, and a benchmark starts its own\n"
        "  mend:  start it by itself\n",
    )


def test_when_none_can_take_a_step_their_refusals_are_said_once(zoo, recipe, processes):
    refusal = DeviceError("there is no memory", "device.device", "buy some")
    processes({"single": refusal, "ddp": refusal})
    status, _, err = zoo("bench", recipe, "--strategies", "single,ddp")
    assert (status, err) == (2, "error: there is no memory\n  where: device.device\n  mend:  buy some\n")
    processes({"single": refusal, "ddp": ProcessFault("process 0:\nIndexError")})
    with pytest.raises(ProcessFault):
        zoo("bench", recipe, "--strategies", "single,ddp")


@pytest.fixture
def in_this_process(monkeypatch):
    """Call what a single process would do, here; return the recipes it was given."""
    given = []

    def run_processes(task, count, *, fresh):
        given.append(task.args[0])
        return task()

    monkeypatch.setattr(benching, "run_processes", run_processes)
    before = signal.getsignal(signal.SIGINT)
    yield given
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def scratch(tmp_path_factory, monkeypatch):
    """Where `bench` makes its temporary folder: what others leave in the machine's own is no matter."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(benching, "TemporaryDirectory", partial(TemporaryDirectory, dir=folder))
    return folder


def test_steps_go_on_with_the_next_epoch(recipe, registry, in_this_process, scratch, monkeypatch):
    taken = []
    real = benching.Loop._step

    def step(loop, part):
        taken.append(part.indices.tolist())
        real(loop, part)

    monkeypatch.setattr(benching.Loop, "_step", step)
    found = bench(load_recipe(recipe, registry), registry, ["single"], count=7)
    assert len(taken) == WARM + 7  # an epoch has 4
    assert [sorted(chain(*taken[start : start + 4])) for start in (0, 4)] == [list(range(32))] * 2
    assert taken[:4] != taken[4:8]
    (row,) = found.rows
    assert (row.strategy, row.processes, row.relative, row.why_not) == ("single", 1, 1.0, "")
    assert row.images_per_second > 0
    assert row.memory > 100 << 20
    assert row.first_step > 0
    assert (found.model, found.size, found.batch_size, found.precision) == ("timm/test_resnet", (32, 32), 8, "fp32")
    assert (found.steps, found.memory, found.kept) == (7, "RSS", False)
    assert list(scratch.iterdir()) == []


def test_auto_is_measured_once_and_kept_features_are_noticed(recipe, registry, in_this_process):
    sets = ["device.precision=auto", 'freeze.use="head"', "run.ema=0.9", "export=[{use='safetensors',weights='ema'}]"]
    found = bench(load_recipe(recipe, registry, sets), registry, ["single", "data-parallel"], count=1)
    chosen = [one.device.common.precision for one in in_this_process]
    assert chosen[0] == "auto"
    assert chosen[1] == chosen[2] == found.precision
    assert chosen[1] in ("fp32", "bf16")
    assert found.kept
    assert [row.strategy for row in found.rows] == ["single", "data-parallel"]
    assert all(one.callbacks == one.exports == () for one in in_this_process)


@pytest.mark.slow
def test_real_processes(zoo, recipe, tmp_path, scratch, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = sorted(tmp_path.iterdir())
    status, out, err = zoo("bench", recipe, "--strategies", "single,ddp,fsdp", "--steps", 3, "--devices", 2, "--json")
    assert (status, err) == (0, "")
    rows = {row["strategy"]: row for row in json.loads(out)["rows"]}
    assert {name: row["processes"] for name, row in rows.items()} == {"single": 1, "ddp": 2, "fsdp": 2}
    for row in rows.values():
        assert row["why_not"] == ""
        assert row["images_per_second"] > 0
        assert 1 < row["first_step"] < 200
    assert 1.5 < rows["ddp"]["memory"] / rows["single"]["memory"] < 2.5  # each process has torch, and the whole model
    assert (list(scratch.iterdir()), sorted(tmp_path.iterdir())) == ([], before)


@pytest.mark.slow
def test_a_recipe_that_fails_is_refused_once(zoo, recipe, photos):
    (photos / "train/above").rename(photos / "train/.above")
    status, out, err = zoo("bench", recipe)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) <= 3
