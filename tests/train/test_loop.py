"""The loop: the same bits however a run is cut, stopped, or disturbed."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.train.tiny import make_loop, resumed
from zoo.errors import Interrupted, RunError
from zoo.freeze.policies import head
from zoo.recipe.schema import CheckpointTable
from zoo.registry.builtin.freeze import HeadOptions
from zoo.registry.contracts import DeviceSettings
from zoo.registry.events import CheckpointSaved, EpochStarted, Evaluated, RunEnded, StepEnded
from zoo.registry.hookspecs import hookimpl
from zoo.train.loop import Loop, count_pieces
from zoo.train.optim_state import optimizer_numbers, optimizer_tensors

STEPS = 3  # an epoch of 20 images, 8 a step


class Watcher:
    """Keeps what happened."""

    def __init__(self) -> None:
        self.steps: list[StepEnded] = []
        self.epochs: list[EpochStarted] = []
        self.ended: RunEnded | None = None

    @hookimpl
    def epoch_started(self, event: EpochStarted) -> None:
        self.epochs.append(event)

    @hookimpl
    def step_ended(self, event: StepEnded) -> None:
        self.steps.append(event)

    @hookimpl
    def run_ended(self, event: RunEnded) -> None:
        self.ended = event


class CtrlC:
    """Presses Ctrl-C during a step, once or several times."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.step, self.times = step, times

    @hookimpl
    def step_ended(self, event: StepEnded) -> None:
        if event.step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


class Poison:
    """Spoils a weight after a step."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.weight = torch.zeros(1)

    @hookimpl
    def step_ended(self, event: StepEnded) -> None:
        if event.step == self.step:
            self.weight.detach()[0, 0] = float("nan")


def everything(loop: Loop) -> dict[str, Tensor]:
    """Weights, statistics, moving average and optimiser."""
    tensors = {f"model/{name}": value for name, value in loop.job.model.state_dict().items()}
    tensors |= {f"evaluated/{name}": value for name, value in loop.evaluated.state_dict().items()}
    return tensors | {f"optimizer/{name}": value for name, value in optimizer_tensors(loop.job.optimizer).items()}


def assert_same(first: Loop, second: Loop) -> None:
    a, b = everything(first), everything(second)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert first.progress == second.progress
    assert optimizer_numbers(first.job.optimizer) == optimizer_numbers(second.job.optimizer)


# Accumulation.


def gradients(folder: Path, accumulate: int) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of one batch of 29 images through a model without batch norm."""
    loop = make_loop(folder, arch="test_vit", images=29, batch_size=29, accumulate=accumulate)
    loss = loop._gradients(next(loop.job.train.epoch(0)), 29)
    return loss, [parameter.grad for parameter in loop.job.model.parameters() if parameter.grad is not None]


def test_the_gradient_is_the_same_however_a_batch_is_cut(tmp_path: Path) -> None:
    whole, expected = gradients(tmp_path, 1)
    for accumulate in (2, 3, 29):
        loss, found = gradients(tmp_path, accumulate)
        torch.testing.assert_close(loss, whole)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(batch_size=st.integers(1, 64), accumulate=st.integers(1, 64), data=st.data())
def test_pieces_fit_the_micro_batch_and_none_is_a_lone_image(batch_size: int, accumulate: int, data: Any) -> None:
    images = data.draw(st.integers(1, batch_size))
    micro = -(-batch_size // accumulate)
    sizes = [len(piece) for piece in torch.arange(images).tensor_split(count_pieces(images, batch_size, accumulate))]
    assert sum(sizes) == images
    assert len(sizes) <= accumulate
    assert max(sizes) <= (micro if micro != 2 else 3)
    assert min(sizes) >= min(2, micro, images)


def test_a_ragged_batch_leaves_batch_norm_more_than_one_image(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, images=19, accumulate=4, epochs=1)  # 8, 8 and 3 images
    assert loop.fit().reason == "finished"


# Going on.

HARD: dict[str, Any] = {
    "ema": 0.9,
    "dropout": 0.3,
    "drop_path": 0.2,
    "data": {"mixup": 0.4, "augment": "standard"},
    "settings": DeviceSettings(device="cpu", precision="fp32", channels_last=True),
    "accumulate": 2,
    "clip_norm": 0.5,
}


@pytest.mark.parametrize("step", [1, STEPS, STEPS + 2], ids=["in the first epoch", "at its end", "in the second"])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, step: int) -> None:
    whole = make_loop(tmp_path / "whole", **HARD)
    assert whole.fit().reason == "finished"
    watcher = Watcher()
    cut = make_loop(tmp_path / "cut", callbacks={"watcher": watcher, "ctrl-c": CtrlC(step)}, **HARD)
    with pytest.raises(Interrupted) as caught:
        cut.fit()
    path = tmp_path / "cut" / "checkpoints" / f"step-{step:08d}"
    assert str(caught.value) == f"stopped after step {step}, saved in {path}\n  mend:  zoo finetune --resume RUN"
    assert watcher.ended is not None
    assert watcher.ended.reason == "interrupted"
    assert len(watcher.steps) == step

    rest = Watcher()
    again = resumed(tmp_path / "cut", callbacks={"watcher": rest}, **HARD)
    assert again.fit().reason == "finished"
    assert [event.step for event in rest.steps] == list(range(step + 1, 2 * STEPS + 1))
    assert_same(whole, again)
    best = (made.job.checkpoints.best() for made in (whole, again))
    assert len({path.name for path in best if path}) == 1


def test_precision_fp16_keeps_its_loss_scale(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"settings": DeviceSettings(device="cpu", precision="fp16", channels_last=False)}
    whole = make_loop(tmp_path / "whole", **keys)
    whole.fit()
    with pytest.raises(Interrupted):
        make_loop(tmp_path / "cut", callbacks={"ctrl-c": CtrlC(2)}, **keys).fit()
    again = resumed(tmp_path / "cut", **keys)
    again.fit()
    assert_same(whole, again)
    assert whole.job.strategy.state() == again.job.strategy.state()


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    watcher, before = Watcher(), signal.getsignal(signal.SIGINT)
    loop = make_loop(tmp_path, callbacks={"watcher": watcher, "ctrl-c": CtrlC(1, times=2)})
    with pytest.raises(KeyboardInterrupt):
        loop.fit()
    assert loop.job.checkpoints.paths() == []
    assert watcher.ended is not None
    assert watcher.ended.reason == "interrupted"
    assert signal.getsignal(signal.SIGINT) is before


def test_the_best_mark_follows_the_history_after_a_crash(tmp_path: Path) -> None:
    """The crash came after the first epoch's checkpoint and before the note that it is the best one."""
    make_loop(tmp_path, epochs=1).fit()
    (tmp_path / "checkpoints" / "index.json").unlink()
    loop = resumed(tmp_path, epochs=1)
    assert loop.job.checkpoints.best() == tmp_path / "checkpoints" / f"step-{STEPS:08d}"


# What must not go unnoticed.

MEND = '\n  mend:  lower optim.lr, set run.clip_norm, or set device.precision = "fp32"'


def poisoned(folder: Path, every: Any) -> tuple[Loop, Watcher]:
    poison, watcher = Poison(STEPS + 1), Watcher()
    checkpoint = CheckpointTable(every=every, keep=1)
    loop = make_loop(folder, callbacks={"poison": poison, "watcher": watcher}, checkpoint=checkpoint)
    poison.weight = loop.job.model.head("main").linear.weight  # type: ignore[attr-defined]
    return loop, watcher


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    loop, watcher = poisoned(tmp_path, "epoch")
    with pytest.raises(RunError) as caught:
        loop.fit()
    assert str(caught.value) == f"the loss is nan at step {STEPS + 2}{MEND}"
    assert watcher.ended is not None
    assert watcher.ended.reason == f"failed: {caught.value}"
    assert [path.name for path in loop.job.checkpoints.paths()] == [f"step-{STEPS:08d}"]
    assert loop.job.checkpoints.damaged() == []


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    loop, _ = poisoned(tmp_path, 1)
    with pytest.raises(RunError) as caught:
        loop.fit()
    assert str(caught.value) == f"heads.main.linear.weight is not finite after step {STEPS + 1}{MEND}"
    newest = loop.job.checkpoints.newest()
    assert newest is not None
    assert newest.state["progress"]["step"] == STEPS
    assert all(tensor.isfinite().all() for tensor in newest.tensors["model"].values())


def test_a_callback_that_refuses_to_start_still_ends_the_run(tmp_path: Path) -> None:
    class Refusing:
        @hookimpl
        def run_started(self, event: Any) -> None:
            raise RunError("no")

    watcher = Watcher()
    with pytest.raises(RunError, match=r"^no$"):
        make_loop(tmp_path, callbacks={"watcher": watcher, "refusing": Refusing()}).fit()
    assert watcher.ended is not None
    assert watcher.ended.reason == "failed: no"


# The moving average.


def test_the_moving_average_is_timm_s_and_leaves_frozen_weights_alone(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, ema=0.75, policy=head(HeadOptions()))
    loop.job.model.train()
    start = {name: value.clone() for name, value in loop.evaluated.state_dict().items()}
    for batch in loop.job.train.epoch(0):
        before = {name: value.clone() for name, value in loop.evaluated.state_dict().items()}
        loop._step(batch)
        now = loop.job.model.state_dict()
        for name, value in loop.evaluated.state_dict().items():
            expected = torch.lerp(before[name], now[name], 0.25) if value.is_floating_point() else now[name]
            assert torch.equal(value, expected), name
    frozen = [name for name in start if name.startswith("backbone.")]
    assert all(torch.equal(loop.evaluated.state_dict()[name], start[name]) for name in frozen)
    assert not torch.equal(loop.evaluated.state_dict()["heads.main.linear.weight"], start["heads.main.linear.weight"])


def test_without_a_moving_average_the_model_itself_is_evaluated(tmp_path: Path) -> None:
    loop = make_loop(tmp_path)
    assert loop.evaluated is loop.job.model


# What a run does in order.


def test_epochs_steps_and_rates(tmp_path: Path) -> None:
    watcher = Watcher()
    loop = make_loop(tmp_path, callbacks={"watcher": watcher})
    ended = loop.fit()
    assert (ended.reason, ended.best) == ("finished", loop.progress.best())
    assert [(event.epoch, event.step) for event in watcher.epochs] == [(0, 0), (1, STEPS)]
    assert [(event.step, event.epoch, event.images) for event in watcher.steps] == [
        (1, 0, 8),
        (2, 0, 8),
        (3, 0, 4),
        (4, 1, 8),
        (5, 1, 8),
        (6, 1, 4),
    ]
    assert [event.lr for event in watcher.steps][:2] == [0.005, 0.01]
    assert watcher.steps[-1].lr == pytest.approx(0)


def test_the_training_loss_is_the_mean_over_the_epoch_s_images(tmp_path: Path) -> None:
    watcher = Watcher()
    loop = make_loop(tmp_path, callbacks={"watcher": watcher}, epochs=1)
    loop.fit()
    total = sum(event.images * (event.loss or 0.0) for event in watcher.steps)
    assert loop.progress.history[0].metrics["train/loss"] == pytest.approx(total / 20, rel=1e-5)
    assert list(loop.progress.history[0].metrics) == ["train/loss", "val/loss", "val/accuracy", "lr"]


def test_checkpoints_every_few_steps_and_at_each_epoch_s_end(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, checkpoint=CheckpointTable(every=2, keep=10))
    loop.fit()
    assert [path.name[-1] for path in loop.job.checkpoints.paths()] == ["2", "3", "4", "6"]


def test_a_callback_s_reason_stops_the_run(tmp_path: Path) -> None:
    class Enough:
        @hookimpl
        def should_stop(self, history: tuple[Evaluated, ...]) -> str | None:
            return "enough" if len(history) == 1 else None

    loop = make_loop(tmp_path, callbacks={"enough": Enough()}, epochs=3)
    assert loop.fit().reason == "stopped: enough"
    assert (loop.progress.epoch, loop.progress.step) == (1, STEPS)


@pytest.mark.parametrize(
    ("best_by", "old", "new", "best"),
    [
        ("val/accuracy", 0.5, 0.6, True),
        ("val/accuracy", 0.5, 0.5, False),
        ("val/accuracy", 0.5, 0.4, False),
        ("val/loss", 0.5, 0.4, True),
        ("val/loss", 0.5, 0.6, False),
        ("val/accuracy", float("nan"), 0.1, True),
        ("val/accuracy", float("nan"), float("nan"), False),
        ("val/accuracy", 0.1, float("nan"), False),
    ],
)
def test_which_evaluation_is_best(tmp_path: Path, best_by: str, old: float, new: float, best: bool) -> None:
    loop = make_loop(tmp_path, best_by=best_by)
    assert loop._is_best({best_by: old})
    loop.progress.history.append(Evaluated(0, STEPS, {best_by: old}, best=True))
    loop.progress.history.append(Evaluated(1, 2 * STEPS, {best_by: old}, best=False))
    assert loop._is_best({best_by: new}) is best


def test_random_numbers_that_a_callback_draws_change_nothing(tmp_path: Path) -> None:
    class Dice:
        @hookimpl
        def step_ended(self, event: StepEnded) -> None:
            torch.rand(event.step)

    calm = make_loop(tmp_path / "calm", dropout=0.5, drop_path=0.2, epochs=1)
    noisy = make_loop(tmp_path / "noisy", dropout=0.5, drop_path=0.2, epochs=1, callbacks={"dice": Dice()})
    other = make_loop(tmp_path / "other", dropout=0.5, drop_path=0.2, epochs=1, seed=1)
    for loop in (calm, noisy, other):
        loop.fit()
    assert_same(calm, noisy)
    name = "model/heads.main.linear.weight"
    assert not torch.equal(everything(calm)[name], everything(other)[name])


class CtrlCAfterAnEpoch:
    """Presses Ctrl-C when an epoch's last step and its evaluation are done."""

    @hookimpl
    def checkpoint_saved(self, event: CheckpointSaved) -> None:
        if event.step == STEPS:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_after_an_epoch_s_last_step_costs_no_further_step(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, callbacks={"ctrl-c": CtrlCAfterAnEpoch()})
    with pytest.raises(Interrupted, match=f"^stopped after step {STEPS}, saved in "):
        loop.fit()
    assert [path.name for path in loop.job.checkpoints.paths()] == [f"step-{STEPS:08d}"]
    again = resumed(tmp_path)
    again.fit()
    whole = make_loop(tmp_path / "whole")
    whole.fit()
    assert_same(whole, again)


def test_a_batch_of_bad_images_alone_moves_nothing(tmp_path: Path) -> None:
    """What stands in for them does not count, however many processes there are."""
    loop = make_loop(tmp_path, ema=0.5)
    loop._epoch(0)
    before = {name: tensor.clone() for name, tensor in loop.job.model.state_dict().items()}
    progress = replace(loop.progress)
    part = next(loop.job.train.epoch(1))
    loop._step(replace(part, own=0))
    after = loop.job.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert (loop.progress.step, loop.progress.images) == (progress.step + 1, progress.images)
