"""Runs of several processes, as a user starts them: launched by zoo, torchrun or srun; killed, stopped, and failing."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import randrange

import pytest

from tests.runs.conftest import write_photos, write_recipe
from tests.runs.processes import children, kill_tree, ranks, start, wait_for_step, wait_for_the_end_of, wait_until
from zoo.run.launching import ProcessFault, run_processes
from zoo.run.prove import compare

TWO = ("--set", "device.use=ddp", "--set", "device.devices=2")
LONG = (*TWO, "--set", "run.epochs=12", "--set", "checkpoint.every=1", "--set", "data.augment=standard")
ZOO = str(Path(sys.executable).parent / "zoo")


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def free_port() -> int:
    """A port that stays free: the system gives out none below 32,768 by itself."""
    while True:
        port = randrange(20_000, 30_000)
        with socket.socket() as listening, suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return port


def is_open(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def torchrun(*words: object) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *map(str, words)]


GATED = """
import os, sys, time
from torch.distributed.run import main
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
main(sys.argv[2:])
"""


def gated(gate: Path, words: list[str]) -> list[str]:
    """Torchrun with its imports done, which begins when there is a file `gate`."""
    return [sys.executable, "-c", GATED, str(gate), *words[words.index("torch.distributed.run") + 1 :]]


def popen(folder: Path, words: list[str], **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        words,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run in one process, of a network without batch norm."""
    folder = tmp_path_factory.mktemp("alone")
    run = start(folder, "finetune", made(folder), "--out", "run", *VIT)
    assert (run.communicate()[1], run.returncode) == ("", 0)
    return folder / "run"


def made(folder: Path) -> Path:
    """A recipe, and the photos that it is for."""
    return write_recipe(folder, write_photos(folder / "photos"))


VIT = ("--set", "backbone.arch=test_vit", "--set", "optim.use=sgd")


def assert_near(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.timeout(120)
def test_two_processes_give_what_one_gives(zoo, recipe, tmp_path, alone):
    status, _, err = zoo("finetune", recipe, "--out", "two", *VIT, *TWO)
    assert (status, err) == (0, "")
    log = (tmp_path / "two/log.txt").read_text()
    assert (log.count("device       ddp, 2 processes, cpu, fp32\n"), log.count("epoch ")) == (1, 3)
    assert_near(metrics(tmp_path / "two"), metrics(alone))
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in alone.iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_shards_give_what_one_gives(zoo, recipe, tmp_path, alone):
    shards = ("--set", "device.use=fsdp", "--set", "device.devices=2", "--set", "device.channels_last=true")
    assert zoo("finetune", recipe, "--out", "two", *VIT, *shards)[::2] == (0, "")
    assert_near(metrics(tmp_path / "two"), metrics(alone))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two processes that nothing stops, with a checkpoint at every step."""
    folder = tmp_path_factory.mktemp("whole")
    run = start(folder, "finetune", made(folder), "--out", "run", *LONG)
    out, err = run.communicate()
    assert (run.returncode, err, out.count("device  "), out.count("epoch 1/12")) == (0, "", 1, 1)
    return folder / "run"


@pytest.fixture
def begun(whole, tmp_path):
    """The same run again, some steps on."""
    run = start(tmp_path, "finetune", whole / "recipe.toml", "--out", "run")
    try:
        wait_for_step(tmp_path / "run", 6)
        yield run
    finally:
        kill_tree(run.pid)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("asked", "number"), [("launcher", "SIGTERM"), ("launcher", "SIGINT"), ("rank 1", "SIGTERM")])
def test_a_stop_and_a_resume_change_no_bit(whole, begun, tmp_path, asked, number):
    """All stop after the same step, whichever was asked; Ctrl-C reaches the launcher, which passes it on."""
    os.kill(begun.pid if asked == "launcher" else ranks(begun.pid)[1], signal.Signals[number])
    err = begun.communicate(timeout=60)[1]
    assert begun.returncode == 128 + signal.Signals[number]
    assert re.fullmatch(
        r"error: stopped after step (\d+), saved in run/checkpoints/step-0*\1\n  mend:  zoo finetune --resume run\n",
        err,
    )
    wait_for_the_end_of(begun.pid)
    resumed = start(tmp_path, "finetune", "--resume", "run")
    assert (resumed.communicate()[1], resumed.returncode) == ("", 0)
    assert compare(whole, tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_processes_of_a_killed_launcher_save_and_end(whole, begun, tmp_path):
    begun.kill()
    begun.communicate(timeout=60)
    wait_for_the_end_of(begun.pid)
    resumed = start(tmp_path, "finetune", "--resume", "run")
    assert (resumed.communicate()[1], resumed.returncode) == ("", 0)
    assert compare(whole, tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_replaced_and_no_bit_changes(whole, begun, tmp_path, rank):
    os.kill(ranks(begun.pid)[rank], signal.SIGKILL)
    out, err = begun.communicate()
    assert (begun.returncode, err) == (0, "")
    assert f"replaced     process {rank}, ended by SIGKILL; all go on (2 more times)" in out.splitlines()
    assert compare(whole, tmp_path / "run") == []


@pytest.mark.timeout(120)
def test_what_one_process_refuses_ends_all(zoo, recipe, photos):
    """The corrupt image is in the part of one process alone; the other waits for its gradients."""
    (photos / "train/above/03.png").write_bytes(b"no image")
    started = time.monotonic()
    assert zoo("finetune", recipe, "--out", "run", *TWO)[::2] == (
        2,
        "error: image 'train/above/03.png' cannot be used: it is in no image format that Pillow reads\n"
        '  mend:  mend or remove it, or set data.on_bad_image = "skip"\n',
    )
    assert time.monotonic() - started < 60


def fails_in_one() -> None:
    if os.environ["RANK"] == "1":
        raise ValueError("a plugin is at fault")
    time.sleep(90)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_fault_of_one_process_ends_all_with_its_traceback():
    started = time.monotonic()
    with pytest.raises(ProcessFault) as caught:
        run_processes(fails_in_one, 2)
    first, *_, last = str(caught.value).rstrip().splitlines()
    assert (first, last) == ("process 1:", "ValueError: a plugin is at fault")
    assert "in fails_in_one" in str(caught.value)
    assert time.monotonic() - started < 60


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_goes_on_under_another_strategy(zoo, recipe, tmp_path):
    """It is a change, and has to be named."""
    keys = (*VIT, "--set", "schedule.use=constant")
    assert zoo("finetune", recipe, "--out", "alone", *keys)[0] == 0
    assert zoo("finetune", recipe, "--out", "run", *keys, "--set", "run.epochs=1")[0] == 0
    longer = ("--resume", "--set", "run.epochs=2")
    assert zoo("finetune", recipe, "--out", "run", *keys, *longer, *TWO)[::2] == (0, "")
    assert_near(metrics(tmp_path / "run"), metrics(tmp_path / "alone"))
    back = ("--set", 'device={use="single", precision="fp32", channels_last=false}', "--set", "run.epochs=3")
    assert zoo("finetune", "--resume", "run", *back)[::2] == (0, "")
    assert len(metrics(tmp_path / "run")) == 3


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_loader_process_of_one_is_killed(recipe, tmp_path):
    run = start(tmp_path, "finetune", recipe, "--out", "run", *LONG, "--set", "data.workers=1")
    wait_for_step(tmp_path / "run", 6)
    os.kill(children(ranks(run.pid)[1])[0], signal.SIGKILL)
    err = run.communicate(timeout=60)[1]
    assert run.returncode == 2, err
    assert re.fullmatch(
        r"error: a loader process ended: DataLoader worker \(pid(\(s\))? \d+\).*\n  where: data.workers\n"
        r"  mend:  set fewer workers: memory may be short\n",
        err,
        re.DOTALL,
    ), err
    wait_for_the_end_of(run.pid)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("bad", [["train/above/03.png", "val/below/02.png"], [f"val/above/0{n}.png" for n in range(6)]])
def test_bad_images_are_skipped_and_counted_once(zoo, recipe, photos, tmp_path, bad):
    """One in the part of one process; and a whole batch of them."""
    for name in bad:
        (photos / name).write_bytes(b"no image")
    skip = ("--set", "data.on_bad_image=skip", "--set", "data.mixup=0.2", "--set", "run.batch_size=6")
    assert zoo("finetune", recipe, "--out", "alone", *VIT, *skip)[0] == 0
    assert zoo("finetune", recipe, "--out", "two", *VIT, *skip, *TWO)[::2] == (0, "")
    assert_near(metrics(tmp_path / "two"), metrics(tmp_path / "alone"))
    bad = [(tmp_path / run / "bad_images.txt").read_text() for run in ("alone", "two")]
    assert bad[0] == bad[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_that_does_not_answer_is_named(recipe, tmp_path):
    hung = start(tmp_path, "finetune", recipe, "--out", "hung", *LONG, "--set", "device.timeout=15")
    wait_for_step(tmp_path / "hung", 6)
    os.kill(ranks(hung.pid)[1], signal.SIGSTOP)
    stopped = time.monotonic()
    err = hung.communicate(timeout=120)[1]
    assert (hung.returncode, err) == (
        2,
        "error: process 1 of 2 has ended or does not answer\n"
        "  mend:  see what became of it; if it was only slow, set device.timeout higher; then go on with --resume\n",
    )
    assert time.monotonic() - stopped < 15 + 10 + 10
    wait_for_the_end_of(hung.pid)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_torchrun_starts_them_too(recipe, tmp_path, alone):
    words = torchrun(
        "--standalone", "--nproc-per-node", 2, "--no-python", ZOO, "finetune", recipe, "--out", "two", *VIT
    )
    done = popen(tmp_path, [*words, "--set", "device.use=ddp"])
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert sum(line.startswith("run  ") for line in out.splitlines()) == 1
    assert_near(metrics(tmp_path / "two"), metrics(alone))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_slurm_starts_them_too(recipe, tmp_path, alone):
    step = {
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "2",
    }
    words = [ZOO, "finetune", str(recipe), "--out", "two", *VIT, "--set", "device.use=ddp"]
    job = str(free_port())  # the port is the job's
    started = [
        popen(tmp_path, words, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_JOB_ID=job, **step)
        for rank in (0, 1)
    ]
    said = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert (said[1], said[0][1]) == (("", ""), "")
    assert_near(metrics(tmp_path / "two"), metrics(alone))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_machines_meet_by_c10d(recipe, tmp_path, alone):
    """Two launchers, a process each, with one folder in common."""
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "7")
    words = torchrun("--nnodes", 2, "--nproc-per-node", 1, *meeting, "--local-addr", "127.0.0.1", "--no-python", ZOO)
    words += ["finetune", str(recipe), "--out", "two", *VIT, "--set", "device.use=ddp"]
    machines = [popen(tmp_path, words) for _ in range(2)]
    said = [machine.communicate() for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert_near(metrics(tmp_path / "two"), metrics(alone))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_machine_goes_and_comes_back_and_the_batches_stay(zoo, recipe, tmp_path):
    """Torch's launchers, a process each: 2, then 1, then 2 again, in the order of one process."""
    keys = [*VIT, "--set", "run.epochs=60", "--set", "checkpoint.every=2"]
    assert zoo("finetune", recipe, "--out", "alone", *keys)[0] == 0
    port = free_port()
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "8"]
    meeting += ["--rdzv-conf", "last_call_timeout=3,keep_alive_interval=1", "--local-addr", "127.0.0.1"]
    words = torchrun("--nnodes", "1:2", "--nproc-per-node", 1, "--max-restarts", 3, *meeting, "--no-python", ZOO)
    words += ["finetune", str(recipe), "--out", "run", *keys, "--set", "device.use=ddp"]
    fresh = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # torch 2.14 tells a machine that comes later no address
    gates = [tmp_path / "second", tmp_path / "back"]
    second, back = (popen(tmp_path, gated(gate, words), **fresh) for gate in gates)
    first = popen(tmp_path, words, **fresh)
    wait_until(lambda: is_open(port))  # where they meet lives on
    gates[0].touch()
    log = tmp_path / "run/log.txt"
    wait_for_step(tmp_path / "run", 8)
    kill_tree(second.pid)
    wait_until(lambda: "device       cpu, fp32" in log.read_text())  # alone
    gates[1].touch()
    said = [machine.communicate(timeout=200) for machine in (first, back, second)]
    assert [machine.returncode for machine in (first, back)] == [0, 0], said
    assert log.read_text().count("device       ddp, 2 processes, cpu, fp32\n") == 2
    assert_near(metrics(tmp_path / "run"), metrics(tmp_path / "alone"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_torchrun_overwrites_what_it_is_told_to(recipe, tmp_path):
    """Its launches are all called "none": that is no launch to go on with."""
    words = torchrun(
        "--nproc-per-node", 1, "--no-python", ZOO, "finetune", recipe, "--out", "run", "--set", "run.epochs=1"
    )
    said = []
    for more in ([], [], ["--overwrite"]):
        process = popen(tmp_path, [*words, *more])
        out, err = process.communicate()
        said.append((process.returncode == 0, "resume" in out.split(), "error: 'run' holds a run already" in err))
    assert said == [(True, False, False), (False, False, True), (True, False, False)]


def test_one_of_several_processes_takes_no_strategy_for_one(zoo, recipe, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setitem(os.environ, name, value)
    assert zoo("finetune", recipe, "--out", "run") == (
        2,
        "",
        "error: this is one of 2 processes, and 'single' takes one\n  where: device.use\n"
        '  mend:  use "ddp" or "fsdp", or start it without torchrun or srun\n',
    )
