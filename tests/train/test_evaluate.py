"""Evaluation: every image once, against a computation by hand."""

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.train.tiny import SETTINGS, SPEC, make_model, make_split
from zoo.data import Batch, Preprocess, ValBatches
from zoo.devices.single import build
from zoo.errors import RunError
from zoo.recipe.schema import DataTable
from zoo.registry.parts import NoOptions
from zoo.train.evaluate import evaluate
from zoo.train.model import Model


def batches() -> ValBatches:
    return ValBatches(make_split(10, "val"), SPEC, DataTable(workers=0), batch_size=4)  # 4, 4 and 2


def measure(model: Model, given: Any, expected: int = 10) -> dict[str, float]:
    normalise = Preprocess(SPEC).normalise
    return evaluate(model, given, lambda x: model(normalise(x)), build(NoOptions(), SETTINGS), lambda: expected)


def test_metrics_are_those_of_all_images_at_once() -> None:
    model = make_model(dropout=0.5).train()
    found = measure(model, batches())
    whole: list[Batch] = list(batches())
    images = torch.cat([batch.images for batch in whole])
    targets = torch.cat([batch.targets for batch in whole])
    logits = model.eval()(Preprocess(SPEC).normalise(images))["main"]
    assert found == {
        "val/loss": pytest.approx(cross_entropy(logits, targets).item(), rel=1e-5),
        "val/accuracy": pytest.approx((logits.argmax(1) == targets).float().mean().item()),
    }


def test_metrics_of_several_heads_bear_their_names() -> None:
    found = measure(make_model(heads=("main", "second")), batches())
    assert list(found) == ["val/loss", "val/main/accuracy", "val/second/accuracy"]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_its_mode_and_untouched(training: bool) -> None:
    model = make_model().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, batches())
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_mode_comes_back_after_a_failure_too() -> None:
    model = make_model().train()
    with pytest.raises(AttributeError):
        measure(model, [1])
    assert model.training


@pytest.mark.parametrize(("given", "seen"), [(slice(1), 4), (slice(-1), 8)])
def test_a_lost_image_is_refused(given: slice, seen: int) -> None:
    with pytest.raises(RunError) as caught:
        measure(make_model(), list(batches())[given])
    assert str(caught.value) == f"validation saw {seen} images, and there are 10\n  mend:  the data source is at fault"


def test_a_doubled_image_is_refused() -> None:
    with pytest.raises(RunError) as caught:
        measure(make_model(), [*batches(), next(iter(batches()))])
    assert str(caught.value) == "validation saw 14 images, and there are 10\n  mend:  the data source is at fault"
