"""The last linear layer is found by what it does, not by its name."""

import pytest
import torch
from torch import Tensor, nn

from zoo.backbones.behead import Asked, behead, find_last_linear, measure, take_trunk
from zoo.errors import ZooError
from zoo.registry.contracts import FeatureSpec

ASKED = Asked("lib/net", (8, 8), (8, 8))


class Net(nn.Module):
    """Pools images to (B, 3), then two linear layers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(3, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.drop(self.stem(images.mean((2, 3)))))


class TwoHeads(Net):
    def forward(self, images: Tensor) -> Tensor:
        return (super().forward(images) + super().forward(images)) / 2


class Tokens(Net):
    def forward(self, images: Tensor) -> Tensor:
        return self.last(images.flatten(2).transpose(1, 2))


def on_meta(net: type[Net]) -> Net:
    with torch.device("meta"):
        return net(2)


def test_the_last_linear_is_found() -> None:
    assert find_last_linear(on_meta(Net), ASKED) == "last"


@pytest.mark.parametrize("net", [TwoHeads, Tokens])
def test_another_end_is_not_one_linear(net: type[Net]) -> None:
    assert find_last_linear(on_meta(net), ASKED) is None


def test_a_linear_without_bias_does_not_count() -> None:
    net = on_meta(Net)
    net.last = nn.Linear(3, 2, bias=False, device="meta")
    assert find_last_linear(net, ASKED) is None


def test_behead_takes_the_dropout_along_and_keeps_names() -> None:
    net = behead(Net(2), "last")
    assert isinstance(net.get_submodule("drop"), nn.Identity)
    assert list(net.state_dict()) == ["stem.weight", "stem.bias"]


def test_take_trunk_leaves_the_random_numbers_to_the_trunk() -> None:
    torch.manual_seed(0)
    trunk = take_trunk(Net, lambda: Net(0), ASKED)
    torch.manual_seed(0)
    assert torch.equal(trunk.module.get_parameter("stem.weight"), Net(2).stem.weight)
    assert (trunk.spec, trunk.classifier) == (FeatureSpec(3), "last")


def test_take_trunk_on_the_meta_device() -> None:
    with torch.device("meta"):
        trunk = take_trunk(Net, lambda: Net(0), ASKED)
    assert {parameter.device.type for parameter in trunk.module.parameters()} == {"meta"}


def test_measure_features_with_height_and_width() -> None:
    conv = nn.Conv2d(3, 5, 2, stride=2, device="meta")
    assert measure(conv, ASKED) == FeatureSpec(5, pooled=False, stride=2)


def test_measure_refuses_tokens() -> None:
    with pytest.raises(ZooError) as caught:
        measure(nn.Flatten(2), ASKED)
    assert str(caught.value) == (
        "lib/net gives features of shape (1, 3, 64) for one image, not (1, C) or (1, C, H, W)\n"
        "  where: [backbone] arch\n"
        "  mend:  choose an arch that ends in a classifier"
    )


@pytest.mark.parametrize(("own", "hint"), [((8, 8), "choose another arch"), ((16, 9), "its weights expect 16 x 9")])
def test_a_size_that_does_not_fit_is_refused(own: tuple[int, int], hint: str) -> None:
    with pytest.raises(ZooError) as caught:
        measure(nn.Conv2d(3, 4, 9, device="meta"), Asked("lib/net", (8, 8), own))
    assert str(caught.value) == (
        "lib/net cannot take images of 8 x 8 pixels: Calculated padded input size per channel: (8 x 8). "
        "Kernel size: (9 x 9). Kernel size can't be greater than actual input size\n"
        f"  where: [data] image_size\n  mend:  {hint}"
    )
