from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data.augment import augmentation
from zoo.data.dataset import BadImage, ImageDataset, Sample
from zoo.data.digits import build
from zoo.data.imagefolder import FolderSplit
from zoo.registry.contracts import InputSpec
from zoo.registry.parts import NoOptions

SPEC = InputSpec(size=(16, 16))


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    return ImageDataset(build(NoOptions(), 0).train, augmentation("standard", SPEC), 5)


def image(dataset: ImageDataset, epoch: int, index: int) -> torch.Tensor:
    sample = dataset[epoch, index]
    if isinstance(sample, BadImage):
        raise ValueError(sample.reason)
    return sample.image


def test_a_sample(digits: ImageDataset) -> None:
    sample = digits[0, 7]
    assert isinstance(sample, Sample)
    assert sample.image.shape == (3, 16, 16)
    assert (sample.target, sample.index) == (digits.split.target(7), 7)


def test_pure_in_seed_epoch_and_index(digits: ImageDataset) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = image(digits, 0, 7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(first, image(digits, 0, 7))
    assert not torch.equal(first, image(digits, 1, 7))
    other = ImageDataset(digits.split, augmentation("standard", SPEC), 6)
    assert not torch.equal(first, image(other, 0, 7))


def test_a_bad_image_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "empty.png").touch()
    split = FolderSplit(tmp_path, ["float.tif", "empty.png", "gone.png"], [0, 0, 0])
    bad = [ImageDataset(split, augmentation("none", SPEC), 0)[0, index] for index in range(3)]
    assert bad[0] == BadImage(
        0, "float.tif", "mode F (floating point) has no fixed range: save the image with 8 or 16 bits"
    )
    assert [item.identity for item in bad if isinstance(item, BadImage)] == ["float.tif", "empty.png", "gone.png"]
    assert "No such file" in str(bad[2])
