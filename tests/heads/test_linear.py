"""The linear head: shapes, loss against its definition, metrics, names."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import one_hot

from zoo.heads.linear import LinearHead, build
from zoo.registry.builtin.heads import LinearOptions
from zoo.registry.contracts import FeatureSpec, TargetSpec

POOLED = FeatureSpec(4)


def make(classes: int = 3, features: FeatureSpec = POOLED, **options: float) -> LinearHead:
    return build(LinearOptions(**options), features, TargetSpec(tuple("abcdefghij"[:classes])))


def test_pooled_features_give_logits() -> None:
    head, features = make(), torch.randn(2, 4)
    assert torch.equal(head(features), head.linear(features))


def test_features_with_height_and_width_are_averaged() -> None:
    head = make(features=FeatureSpec(4, pooled=False, stride=32))
    features = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(head(features), head.linear(features.flatten(2).mean(2)))


def test_dropout_only_in_training() -> None:
    head, features = make(dropout=0.9), torch.ones(8, 4)
    assert torch.equal(head.eval()(features), head.linear(features))
    assert not torch.equal(head.train()(features), head.linear(features))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), classes=st.integers(2, 6), smoothing=st.sampled_from([0.0, 0.1, 0.5]))
def test_loss_is_the_cross_entropy_of_the_smoothed_target(seed: int, classes: int, smoothing: float) -> None:
    head, generator = make(classes, label_smoothing=smoothing), torch.Generator().manual_seed(seed)
    logits = torch.randn(5, classes, generator=generator)
    target = torch.randint(classes, (5,), generator=generator)
    spread = one_hot(target, classes) * (1 - smoothing) + smoothing / classes
    expected = -(spread * logits.log_softmax(1)).sum(1)  # (B,)
    torch.testing.assert_close(head.loss(logits, target), expected)
    torch.testing.assert_close(head.loss(logits, one_hot(target, classes).float()), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_is_computed_in_fp32(dtype: torch.dtype) -> None:
    loss = make().loss(torch.randn(2, 3, dtype=dtype), torch.rand(2, 3).softmax(1).to(dtype))
    assert (loss.dtype, loss.shape) == (torch.float32, (2,))


@pytest.mark.parametrize("classes", [2, 3])
def test_accuracy_is_the_share_of_right_classes(classes: int) -> None:
    accuracy = make(classes).metrics()["accuracy"]
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, -1.0], [0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])[:, :classes]
    accuracy.update(logits[:3], torch.tensor([0, 1, 0]))
    accuracy.update(logits[3:], torch.tensor([0]))
    assert accuracy.compute() == 0.75


def test_metrics_are_fresh_each_time() -> None:
    head = make()
    head.metrics()["accuracy"].update(torch.eye(3), torch.arange(3))
    assert head.metrics()["accuracy"].update_count == 0


def test_native_names_are_those_of_a_linear_layer() -> None:
    head = make()
    assert set(head.native_names()) == set(head.state_dict())
    assert set(head.native_names().values()) == set(nn.Linear(1, 1).state_dict())


def test_build_on_the_meta_device() -> None:
    with torch.device("meta"):
        assert make()(torch.empty(2, 4)).shape == (2, 3)
