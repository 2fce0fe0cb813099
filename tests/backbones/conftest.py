"""What every built backbone must hold, whichever library made it."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import linear

from zoo.meta import on_meta
from zoo.registry.contracts import Backbone

CLASSES = 5
Check = Callable[[Backbone, tuple[int, int]], None]


def _check_stages(backbone: Backbone) -> None:
    for name, _ in backbone.module.named_parameters():
        assert sum(name == stage or name.startswith(stage + ".") for stage in backbone.stages) == 1, name


def _check_names(backbone: Backbone) -> None:
    names, last = set(backbone.module.state_dict()), backbone.native.classifier
    with on_meta():
        native = set(backbone.native.build(CLASSES).state_dict())
    assert names < native
    if last is not None:
        assert native - names == {f"{last}.weight", f"{last}.bias"}


def _check_numbers(backbone: Backbone, size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    features = backbone.module.eval()(images)
    assert features.shape[:2] == (2, backbone.spec.channels)
    assert backbone.spec.pooled == (features.ndim == 2)
    if backbone.native.classifier is not None:
        native = backbone.native.build(CLASSES).eval()
        native.load_state_dict(backbone.module.state_dict(), strict=False)  # the last layer stays random
        last = native.get_submodule(backbone.native.classifier)
        torch.testing.assert_close(native(images), linear(features, last.weight, last.bias), atol=1e-5, rtol=1e-5)


def _check_training(backbone: Backbone, size: tuple[int, int]) -> None:
    features = backbone.module.train()(torch.empty(2, 3, *size))
    assert isinstance(features, torch.Tensor)
    assert features.shape[:2] == (2, backbone.spec.channels)
    assert backbone.spec.pooled == (features.ndim == 2)


@pytest.fixture
def check_shapes() -> Callable[[Backbone, tuple[int, int] | None], None]:
    """Return a check of stages, names and the forward in training, for backbones on the meta device."""

    def check(backbone: Backbone, size: tuple[int, int] | None) -> None:
        _check_stages(backbone)
        _check_names(backbone)
        with torch.device("meta"), torch.no_grad():
            _check_training(backbone, size or backbone.input.size)

    return check


@pytest.fixture
def check_all() -> Check:
    """Return a check of stages, names and numbers, for small backbones on the CPU."""

    def check(backbone: Backbone, size: tuple[int, int]) -> None:
        _check_stages(backbone)
        _check_names(backbone)
        with torch.no_grad():
            _check_numbers(backbone, size)

    return check
