"""A run and its checkpoints, which are written beside it: nothing lost, and nothing said too early."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.train.tiny import make_loop, resumed
from zoo.callbacks.metrics_jsonl import build as metrics_jsonl
from zoo.errors import Interrupted, RunError, ZooError
from zoo.files import sha256
from zoo.recipe.schema import CheckpointTable
from zoo.registry.events import CheckpointSaved, EpochStarted, Evaluated, RunEnded, StepEnded
from zoo.registry.hookspecs import hookimpl
from zoo.registry.parts import NoOptions
from zoo.train import checkpoint
from zoo.train.checkpoint import damage
from zoo.train.writing import Background, followed_by

STEPS = 3  # an epoch of 20 images, 8 a step
WRITE = checkpoint._write


# Work in the background.


def fail() -> None:
    raise RunError("no")


def test_work_goes_on_beside_the_caller_in_a_thread_that_ends_with_it() -> None:
    before, let_go, background = threading.enumerate(), threading.Event(), Background()
    seen: list[threading.Thread] = []
    background.wait()

    def work() -> None:
        let_go.wait(60)
        seen.append(threading.current_thread())

    background.start(work)
    assert (background.is_busy, seen) == (True, [])
    let_go.set()
    background.wait()
    assert (background.is_busy, len(seen)) == (False, 1)
    assert seen[0] is not threading.current_thread()
    assert threading.enumerate() == before


def test_work_waits_for_the_work_before() -> None:
    background, done = Background(), list[int]()

    def slow() -> None:
        time.sleep(0.1)
        done.append(1)

    background.start(slow)
    background.start(lambda: done.append(2))
    background.wait()
    assert done == [1, 2]


@pytest.mark.parametrize("following", ["wait", "start"])
def test_what_the_work_raises_is_raised_by_the_next_call_once(following: str) -> None:
    background, done = Background(), list[int]()
    background.start(fail)
    with pytest.raises(RunError, match=r"^no$"):
        background.wait() if following == "wait" else background.start(lambda: done.append(1))
    background.wait()
    assert (background.is_busy, done) == (False, [])


@pytest.fixture
def ctrl_c() -> Iterator[list[int]]:
    """Ctrl-C as Python has it, once: a process that a shell starts in the background ignores it. Lists what came."""
    heard: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        heard.append(number)
        if len(heard) == 1:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    yield heard
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_wait_and_not_the_work(ctrl_c: list[int]) -> None:
    background, waiting, let_go = Background(), threading.Event(), threading.Event()

    def work() -> None:
        waiting.wait(60)
        while not ctrl_c:  # one that comes just before the other thread sleeps does not wake it
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
        let_go.wait(60)
        fail()

    background.start(work)
    with pytest.raises(KeyboardInterrupt):
        waiting.set()
        background.wait()
    assert background.is_busy
    let_go.set()
    with pytest.raises(RunError, match=r"^no$"):
        background.wait()


def test_what_follows_is_done_however_a_block_ends() -> None:
    done: list[str] = []
    with followed_by(lambda: done.append("well")):
        pass
    with pytest.raises(RunError, match=r"^no$"), followed_by(lambda: done.append("refused")):
        fail()
    with pytest.raises(KeyboardInterrupt), followed_by(lambda: done.append("stopped")):
        raise KeyboardInterrupt
    assert done == ["well", "refused", "stopped"]


def test_two_refusals_are_both_said() -> None:
    with pytest.raises(ZooError) as caught, followed_by(fail):
        raise RunError("nor this", where="here")
    assert str(caught.value) == "nor this\n  where: here\nno"
    with pytest.raises(RunError, match=r"^no$") as last, followed_by(fail):
        raise KeyError("a fault")
    assert isinstance(last.value.__context__, KeyError)


# A run.


class Heard:
    """Keeps what was said in order, and whether each checkpoint was whole when it was said to be."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.faults: list[str] = []

    @hookimpl
    def epoch_started(self, event: EpochStarted) -> None:
        self.order.append(f"epoch {event.epoch}")

    @hookimpl
    def checkpoint_saved(self, event: CheckpointSaved) -> None:
        self.order.append(f"saved {event.step}")
        self.faults.append(damage(event.path))
        if threading.current_thread() is not threading.main_thread():
            self.faults.append("not the main thread")

    @hookimpl
    def evaluated(self, event: Evaluated) -> None:
        self.order.append(f"evaluated {event.step}")

    @hookimpl
    def run_ended(self, event: RunEnded) -> None:
        self.order.append(f"ended: {event.reason}")


class At:
    """Does something after a step."""

    def __init__(self, step: int, what: Callable[[], None]) -> None:
        self.step, self.what = step, what

    @hookimpl
    def step_ended(self, event: StepEnded) -> None:
        if event.step == self.step:
            self.what()


def standing(folder: Path) -> list[str]:
    """Look without waiting."""
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a write take longer than a step."""

    def write(*given: Any) -> None:
        time.sleep(0.3)
        WRITE(*given)

    monkeypatch.setattr(checkpoint, "_write", write)


EVERY_STEP = CheckpointTable(every=1, keep=10)


@pytest.mark.usefixtures("slow")
def test_a_checkpoint_is_said_to_be_saved_when_it_stands(tmp_path: Path) -> None:
    heard = Heard()
    make_loop(tmp_path, callbacks={"heard": heard}, checkpoint=EVERY_STEP).fit()
    assert heard.faults == [""] * 8  # the last step of an epoch, and then the epoch
    assert heard.order == [
        *("epoch 0", "saved 1", "saved 2", "saved 3", "saved 3", "evaluated 3"),
        *("epoch 1", "saved 4", "saved 5", "saved 6", "saved 6", "evaluated 6"),
        "ended: finished",
    ]


def test_steps_go_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch's end too, when nobody listens; and the file has the step that it names."""
    let_go, seen = threading.Event(), list[list[str]]()

    def write(folder: Path, snapshot: Any) -> None:
        if folder.name.startswith(f".step-{STEPS:08d}."):
            let_go.wait(60)
        WRITE(folder, snapshot)

    def look() -> None:
        seen.append([name.partition(".")[0] or "draft" for name in standing(tmp_path / "run")])
        let_go.set()

    monkeypatch.setattr(checkpoint, "_write", write)
    make_loop(tmp_path / "run", callbacks={"at": At(STEPS + 2, look)}).fit()
    assert seen == [["draft"]]
    monkeypatch.setattr(checkpoint, "_write", WRITE)
    make_loop(tmp_path / "whole").fit()
    for name in (f"step-{STEPS:08d}", f"step-{2 * STEPS:08d}"):
        for file in (tmp_path / "whole" / "checkpoints" / name).iterdir():
            assert sha256(file) == sha256(tmp_path / "run" / "checkpoints" / name / file.name)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def twice() -> None:
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)


def fault() -> None:
    raise ValueError("a fault")


ENDS: dict[str, tuple[Callable[[], None], type[BaseException], list[str]]] = {
    "SIGTERM": (stop, Interrupted, ["step-00000001", "step-00000002"]),
    "Ctrl-C twice": (twice, KeyboardInterrupt, ["step-00000001"]),
    "a refusal": (fail, RunError, ["step-00000001"]),
    "a fault": (fault, ValueError, ["step-00000001"]),
}


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("end", ENDS)
def test_what_was_begun_stands_however_a_run_ends(tmp_path: Path, end: str) -> None:
    what, error, expected = ENDS[end]
    heard = Heard()
    loop = make_loop(tmp_path, callbacks={"heard": heard, "at": At(2, what)}, checkpoint=EVERY_STEP)
    with pytest.raises(error):
        loop.fit()
    assert [name for name in standing(tmp_path) if name != "index.json"] == expected
    assert heard.faults == [""] * len(expected)
    assert heard.order[:-1] == ["epoch 0", *(f"saved {int(name[5:])}" for name in expected)]
    assert heard.order[-1].startswith("ended: ")


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full from the checkpoint of step 2 on."""

    def write(folder: Path, snapshot: Any) -> None:
        if not folder.name.startswith(".step-00000001."):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        WRITE(folder, snapshot)

    monkeypatch.setattr(checkpoint, "_write", write)


def refusal(folder: Path) -> str:
    return (
        "cannot save step-00000002: [Errno 28] No space left on device; step-00000001 is whole\n"
        f"  where: {folder / 'checkpoints'}\n  mend:  make room, then go on with --resume"
    )


@pytest.mark.usefixtures("full")
def test_a_full_disk_ends_the_run_soon_and_the_checkpoint_before_is_whole(tmp_path: Path) -> None:
    heard = Heard()
    loop = make_loop(tmp_path, callbacks={"heard": heard}, checkpoint=EVERY_STEP)
    with pytest.raises(RunError) as caught:
        loop.fit()
    assert str(caught.value) == refusal(tmp_path)
    assert heard.order == ["epoch 0", "saved 1", f"ended: failed: {caught.value}"]
    assert loop.progress.step == 3
    assert standing(tmp_path) == ["step-00000001"]
    assert loop.job.checkpoints.damaged() == []


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("end", ["the run's", "a signal's"])
def test_a_last_checkpoint_that_cannot_be_written_is_refused(tmp_path: Path, end: str) -> None:
    """A run that finishes does not say so, and one that is stopped does not say that it is saved."""
    callbacks = {"at": At(2, stop)} if end == "a signal's" else {}
    table = CheckpointTable(every=1 if end == "a signal's" else "epoch")
    loop = make_loop(tmp_path, callbacks=callbacks, checkpoint=table, epochs=1)
    with pytest.raises(RunError) as caught:
        loop.fit()
    expected = refusal(tmp_path)
    if end == "the run's":
        expected = expected.replace("step-00000002", f"step-{STEPS:08d}").replace("; step-00000001 is whole", "")
    assert str(caught.value) == expected


def test_a_refusal_and_a_full_disk_are_both_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def write(*_: Any) -> None:
        let_go.wait(60)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse() -> None:
        threading.Timer(0.1, let_go.set).start()
        fail()

    monkeypatch.setattr(checkpoint, "_write", write)
    loop = make_loop(tmp_path, callbacks={"at": At(2, refuse)}, checkpoint=EVERY_STEP)
    with pytest.raises(ZooError) as caught:
        loop.fit()
    assert str(caught.value) == (
        "no\ncannot save step-00000001: [Errno 28] No space left on device\n"
        f"  where: {tmp_path / 'checkpoints'}\n  mend:  make room, then go on with --resume"
    )


KILLED = """if True:
    import os, signal, sys, time
    from pathlib import Path
    from tests.train.test_writing import WRITE, keys
    from tests.train.tiny import make_loop
    from zoo.train import checkpoint

    folder, epoch = Path(sys.argv[1]), int(sys.argv[2])

    def write(draft, snapshot):
        WRITE(draft, snapshot)
        if draft.name.startswith(f".step-{3 * epoch:08d}."):
            while (folder / "metrics.jsonl").read_text().count("\\n") < epoch:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint._write = write
    make_loop(folder, **keys(folder)).fit()
"""


def keys(folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return {"callbacks": {"metrics": metrics_jsonl(NoOptions(), folder)}, "ema": 0.5}


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_kill_between_an_epoch_s_line_and_its_checkpoint_doubles_no_line(tmp_path: Path, epoch: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    make_loop(whole, **keys(whole)).fit()
    command = [sys.executable, "-c", KILLED, cut, str(epoch)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    lines = (whole / "metrics.jsonl").read_text().splitlines()
    assert (cut / "metrics.jsonl").read_text().splitlines() == lines[:epoch]
    draft, *rest = standing(cut)
    assert draft.startswith(f".step-{epoch * STEPS:08d}.")
    assert rest == ["index.json", f"step-{STEPS:08d}"][: 2 * (epoch - 1)]
    again = resumed(cut, **keys(cut)) if epoch > 1 else make_loop(cut, **keys(cut))
    again.fit()
    assert (cut / "metrics.jsonl").read_text().splitlines() == lines
    assert standing(cut) == standing(whole)
    for file in (whole / "checkpoints").rglob("*.*"):
        assert sha256(file) == sha256(cut / "checkpoints" / file.relative_to(whole / "checkpoints"))
