"""The worst mistakes of a validation: against a computation by hand, and without a trace in the run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL.Image import Image

from tests.devices.together import together
from tests.train.test_loop import HARD, assert_same
from tests.train.tiny import CLASSES, SETTINGS, make_loop, make_split
from zoo.devices.ddp import build as ddp
from zoo.freeze.policies import head
from zoo.recipe.schema import OptimTable
from zoo.registry.builtin.devices import ProcessesOptions
from zoo.registry.builtin.freeze import HeadOptions
from zoo.registry.events import Mistake, MistakesFound, RunStarted, StepEnded
from zoo.registry.hookspecs import hookimpl
from zoo.train import loop as loops
from zoo.train.loop import Loop
from zoo.train.mistakes import MOST, Mistakes

SLOW: OptimTable = OptimTable(lr=1e-6)
"""So slow that the model stays as bad as it is at first."""


class Mistaken:
    """Keeps the mistakes of every validation, and does what it can to disturb the run."""

    def __init__(self) -> None:
        self.events: list[MistakesFound] = []
        self.rates: list[dict[str, float]] = []

    @hookimpl
    def run_started(self, event: RunStarted) -> None:
        event.recipe["run"]["name"] = "other"
        event.network().train()

    @hookimpl
    def step_ended(self, event: StepEnded) -> None:
        self.rates.append(dict(event.rates))
        torch.rand(3)

    @hookimpl
    def mistakes_found(self, event: MistakesFound) -> None:
        self.events.append(event)
        for mistake in event.mistakes:
            mistake.image().putpixel((0, 0), (255, 0, 0))


def plain(mistake: Mistake) -> tuple[str, int, int]:
    return mistake.identity, mistake.target, mistake.predicted


def by_hand(loop: Loop) -> list[tuple[str, int, int, float]]:
    """The mistakes of the model as it is, all validation images at once."""
    batches = list(loop.job.val)
    model = loop.evaluated.eval()
    with torch.inference_mode():
        logits = model(loop.job.normalise(torch.cat([batch.images for batch in batches])))["main"]
    sure, predicted = logits.softmax(1).max(1)
    targets = torch.cat([batch.targets for batch in batches])
    rows = zip(range(len(sure)), targets.tolist(), predicted.tolist(), sure.tolist(), strict=True)
    wrong = [(f"val/{index}", target, found, share) for index, target, found, share in rows if target != found]
    return sorted(wrong, key=lambda row: -row[3])


@pytest.mark.parametrize(
    "keys",
    [{"ema": 0.5}, {"policy": head(HeadOptions())}, {"policy": head(HeadOptions()), "data": {"cache": "off"}}],
    ids=["average", "kept features", "frozen"],
)
def test_mistakes_are_those_of_all_images_at_once(tmp_path: Path, keys: dict[str, Any]) -> None:
    mistaken = Mistaken()
    loop = make_loop(tmp_path, callbacks={"mistaken": mistaken}, optim=SLOW, **keys)
    loop.fit()
    expected = by_hand(loop)
    assert len(expected) >= 3
    assert [(event.epoch, event.step) for event in mistaken.events] == [(0, 3), (1, 6)]
    found = mistaken.events[-1].mistakes
    assert [plain(mistake) for mistake in found] == [row[:3] for row in expected]
    assert [mistake.probability for mistake in found] == pytest.approx([row[3] for row in expected], abs=1e-5)


def test_an_image_is_a_copy_of_the_validation_image(tmp_path: Path) -> None:
    mistaken = Mistaken()
    loop = make_loop(tmp_path, callbacks={"mistaken": mistaken}, optim=SLOW, epochs=1)
    loop.fit()
    worst = mistaken.events[0].mistakes[0]
    image: Image = loop.job.val.split.image(int(worst.identity.partition("/")[2]))
    assert (worst.image().mode, worst.image().tobytes()) == ("RGB", image.tobytes())


def test_the_most_confident_come_first_ties_in_order_and_no_more_than_sixteen() -> None:
    mistakes = Mistakes()
    logits = torch.zeros(40, CLASSES)
    logits[:, 0] = torch.arange(40) // 2 / 10  # pairs are tied
    target = torch.ones(40, dtype=torch.long)
    target[39] = 0  # right
    logits[38] = float("nan")
    for batch in torch.arange(40).split(7):
        mistakes.add(logits[batch], target[batch], batch)
    found = mistakes.of(make_split(40, "val"))
    assert len(found) == MOST
    assert [mistake.identity for mistake in found] == [
        f"val/{index}" for pair in range(18, 10, -1) for index in (2 * pair, 2 * pair + 1)
    ]
    assert found[0].probability == pytest.approx(float(logits[36].softmax(0)[0]))


def test_without_mistakes_there_are_none() -> None:
    assert Mistakes().of(make_split(3, "val")) == ()
    mistakes = Mistakes()
    mistakes.add(torch.eye(3), torch.arange(3), torch.arange(3))
    assert mistakes.of(make_split(3, "val")) == ()


def test_they_are_looked_for_only_where_a_callback_hears_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "Mistakes", lambda: pytest.fail("nobody asked"))
    assert make_loop(tmp_path, epochs=1).fit().reason == "finished"


@pytest.mark.parametrize("keys", [HARD, {"policy": head(HeadOptions())}], ids=["hard", "kept features"])
def test_callbacks_that_ask_for_everything_leave_the_run_to_the_bit(tmp_path: Path, keys: dict[str, Any]) -> None:
    alone = make_loop(tmp_path / "alone", **keys)
    watched = make_loop(tmp_path / "watched", callbacks={"mistaken": Mistaken()}, **keys)
    alone.fit()
    watched.fit()
    assert_same(alone, watched)
    for kept in ("model.safetensors", "optimizer.safetensors"):
        files = [path.relative_to(tmp_path / "alone") for path in sorted((tmp_path / "alone").rglob(kept))]
        assert files
        assert all((tmp_path / "alone" / f).read_bytes() == (tmp_path / "watched" / f).read_bytes() for f in files)


def found_together(folder: Path) -> list[tuple[tuple[str, int, int], float]]:
    """Validate with a callback on rank 0 alone."""
    mistaken = Mistaken()
    strategy = ddp(ProcessesOptions(timeout=60), SETTINGS)
    callbacks = {"mistaken": mistaken} if strategy.is_main else {}
    make_loop(folder, arch="test_vit", strategy=strategy, callbacks=callbacks, optim=SLOW, epochs=1).fit()
    return [(plain(mistake), mistake.probability) for event in mistaken.events for mistake in event.mistakes]


@pytest.mark.slow
def test_processes_find_the_mistakes_of_one(tmp_path: Path) -> None:
    mistaken = Mistaken()
    make_loop(tmp_path / "one", arch="test_vit", callbacks={"mistaken": mistaken}, optim=SLOW, epochs=1).fit()
    (event,) = mistaken.events
    first, second = together(tmp_path / "together", 2, found_together, tmp_path / "two")
    assert [one for one, _ in first] == [plain(mistake) for mistake in event.mistakes]
    assert [share for _, share in first] == pytest.approx([mistake.probability for mistake in event.mistakes], abs=1e-5)
    assert second == []
