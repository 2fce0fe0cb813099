"""What is frozen is computed once: the same losses and the same model, from kept features or from images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.tiny import make_loop, resumed
from zoo.freeze.frontier import find_frontier
from zoo.freeze.plan import Rules, make_phases
from zoo.freeze.policies import head, none, stages, zero_lr
from zoo.freeze.thawing import two_phase
from zoo.registry.builtin.freeze import HeadOptions, StagesOptions, TwoPhaseOptions, ZeroLrOptions
from zoo.registry.contracts import FreezePolicy
from zoo.registry.hookspecs import hookimpl
from zoo.registry.parts import NoOptions
from zoo.train import route
from zoo.train.loop import Loop

HEAD = head(HeadOptions())


class Losses:
    def __init__(self) -> None:
        self.all: list[float] = []

    @hookimpl
    def step_ended(self, event: Any) -> None:
        self.all.append(event.loss)


def run(folder: Path, cache: str, **keys: Any) -> tuple[Loop, list[float], list[str]]:
    """A fitted loop, the loss of every step, and what it said of features."""
    losses, said = Losses(), list[str]()
    data = {"cache": cache, **keys.pop("data", {})}
    loop = make_loop(folder, callbacks={"losses": losses}, data=data, **{"policy": HEAD, **keys})
    object.__setattr__(loop.job, "tell", lambda label, text: said.append(f"{label}: {text}"))
    loop.fit()
    return loop, losses.all, said


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_kept_features_give_the_same_losses_and_the_same_model(arch: str, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"arch": arch, "epochs": 3, "dropout": 0.3, "images": 21}
    kept, losses, said = run(tmp_path / "auto", "auto", **keys)
    anew, expected, nothing = run(tmp_path / "off", "off", **keys)
    assert len(losses) == 9
    assert losses == pytest.approx(expected, rel=1e-5)
    assert [e.metrics["val/accuracy"] for e in kept.progress.history] == [
        e.metrics["val/accuracy"] for e in anew.progress.history
    ]
    for name, value in anew.job.model.state_dict().items():
        torch.testing.assert_close(kept.job.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    channels = kept.job.model.head("main").linear.in_features  # type: ignore[attr-defined]
    size = 31 * channels * 4 / 1e6
    assert said == [f"features: kept, 21 + 10 × {channels}, {size:.1f} MB"]
    assert nothing == ["features: computed anew in every epoch"]


def test_images_are_decoded_once(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, policy=HEAD, epochs=3)
    decoded: list[int] = []
    split = loop.job.train._split
    image = split.image
    split.image = lambda index: decoded.append(index) or image(index)  # type: ignore[func-returns-value, method-assign]
    loop.fit()
    assert sorted(decoded) == list(range(20))


@pytest.mark.parametrize("data", [{"augment": "flip"}, {"mixup": 0.2}, {"cutmix": 1.0}])
def test_an_input_that_changes_keeps_nothing(data: dict[str, Any], tmp_path: Path) -> None:
    loop, _, said = run(tmp_path, "auto", data=data)
    assert said == ["features: computed anew in every epoch"]
    assert loop._route.train is None
    assert loop._route.module is loop.job.model.heads


def test_a_backbone_that_draws_random_numbers_keeps_nothing(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, policy=HEAD)
    said: list[str] = []
    object.__setattr__(loop.job, "tell", lambda label, text: said.append(text))
    forward: Callable[[Tensor], Tensor] = loop.job.model.backbone.forward
    loop.job.model.backbone.forward = lambda x: forward(x) + torch.rand(())  # type: ignore[method-assign]
    loop.fit()
    assert said == ["computed anew in every epoch: two passes over the same images differ"]


def test_features_beyond_the_budget_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "BUDGET", 1000)
    _, _, said = run(tmp_path, "auto")
    assert len(said) == 1
    assert said[0].startswith("features: computed anew in every epoch: they would take ")


def test_a_thawed_backbone_goes_back_to_images(tmp_path: Path) -> None:
    loop, losses, said = run(tmp_path / "auto", "auto", policy=two_phase(TwoPhaseOptions(head_epochs=2)), epochs=3)
    _, expected, _ = run(tmp_path / "off", "off", policy=two_phase(TwoPhaseOptions(head_epochs=2)), epochs=3)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert len(said) == 1
    assert loop._route.module is loop.job.model


def test_a_resume_in_the_middle_of_an_epoch_keeps_the_same_features(tmp_path: Path) -> None:
    from zoo.recipe.schema import CheckpointTable

    every = CheckpointTable(every=2, keep=10)
    whole = make_loop(tmp_path / "whole", policy=HEAD, checkpoint=every)
    whole.fit()
    part = make_loop(tmp_path / "part", policy=HEAD, checkpoint=every)
    part._enter(part.job.phases[0])
    for batch, _ in zip(part.job.train.epoch(0, 0, part._route.train), range(2), strict=False):
        part._step(batch)
        part._after_step()
    part.job.checkpoints.wait()
    second = resumed(tmp_path / "part", policy=HEAD, checkpoint=every)
    second.fit()
    expected = whole.job.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in second.job.model.state_dict().items())


def test_the_moving_average_is_validated_on_kept_features(tmp_path: Path) -> None:
    kept, _, _ = run(tmp_path / "auto", "auto", ema=0.5)
    anew, _, _ = run(tmp_path / "off", "off", ema=0.5)
    for ours, theirs in zip(kept.progress.history, anew.progress.history, strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-5)


def test_bad_images_are_left_out_as_without_keeping(tmp_path: Path) -> None:
    def breaking(folder: Path, cache: str) -> list[float]:
        losses = Losses()
        data = {"cache": cache, "on_bad_image": "skip"}
        loop = make_loop(folder, policy=HEAD, callbacks={"losses": losses}, data=data)
        split = loop.job.train._split
        image = split.image

        def bad(index: int) -> Any:
            if index in (3, 7):
                raise OSError("truncated")
            return image(index)

        split.image = bad  # type: ignore[method-assign]
        loop.fit()
        assert [found.index for found in loop.job.train.bad] == [3, 7]
        return losses.all

    assert breaking(tmp_path / "a", "auto") == pytest.approx(breaking(tmp_path / "b", "off"), rel=1e-5)


# The frontier.


@pytest.mark.parametrize(
    ("policy", "rules", "count", "whole"),
    [
        (HEAD, Rules(), 6, True),
        (HEAD, Rules("track"), 0, False),
        (HEAD, Rules(mode="train"), 0, False),
        (zero_lr(ZeroLrOptions()), Rules(), 0, False),
        (none(NoOptions()), Rules(), 0, False),
        (stages(StagesOptions(frozen=["conv1", "bn1", "layer1"])), Rules(), 3, False),
        (stages(StagesOptions(frozen=["bn1", "layer1"])), Rules(), 0, False),
    ],
)
def test_the_frontier(policy: FreezePolicy, rules: Rules, count: int, whole: bool, tmp_path: Path) -> None:
    job = make_loop(tmp_path).job
    plan = make_phases(job.model, job.layout, policy, rules)[0].plan
    found = find_frontier(job.layout, plan)
    assert (found.stages, found.whole) == (job.layout.stages[:count], whole)
