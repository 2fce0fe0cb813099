import pickle
from pathlib import Path

import pytest
import skimage
import torch
from PIL import Image

from zoo.data.augment import PRESETS, augmentation
from zoo.data.preprocess import Preprocess
from zoo.data.seeding import seeded
from zoo.errors import DataError
from zoo.registry.contracts import InputSpec

SPEC = InputSpec(size=(48, 32))
PHOTO = Path(skimage.__file__).parent / "data" / "astronaut.png"
RANDOM = [name for name in PRESETS if name != "none"]


@pytest.fixture
def photo() -> Image.Image:
    return Image.open(PHOTO).convert("RGB")


def test_none_is_the_preprocessing(photo: Image.Image) -> None:
    assert torch.equal(augmentation("none", SPEC)(photo), Preprocess(SPEC).shape(photo))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_any_mode_to_the_size(name: str, mode: str, photo: Image.Image) -> None:
    augmented = augmentation(name, SPEC)(photo.convert(mode))
    assert augmented.shape == (3, 48, 32)
    assert augmented.dtype == torch.uint8


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
def test_seeding_makes_it_a_pure_function(name: str, interpolation: str, photo: Image.Image) -> None:
    spec = InputSpec(size=(48, 32), interpolation=interpolation)  # type: ignore[arg-type]

    def draw(seed: int) -> torch.Tensor:
        with seeded(seed):
            return augmentation(name, spec)(photo)

    assert torch.equal(draw(1), draw(1))
    assert any(not torch.equal(draw(0), draw(seed)) for seed in range(1, 9)) == (name != "none")


def test_flip_is_the_preprocessing_or_its_mirror(photo: Image.Image) -> None:
    plain = Preprocess(SPEC).shape(photo)
    flip = augmentation("flip", SPEC)
    seen = set()
    for seed in range(16):
        with seeded(seed):
            augmented = flip(photo)
        seen.add("plain" if torch.equal(augmented, plain) else "mirror")
        assert torch.equal(augmented, plain) or torch.equal(augmented, plain.flip(-1))
    assert seen == {"plain", "mirror"}


@pytest.mark.parametrize("name", PRESETS)
def test_it_can_be_sent_to_another_process(name: str, photo: Image.Image) -> None:
    sent = pickle.loads(pickle.dumps(augmentation(name, SPEC)))
    with seeded(3):
        expected = augmentation(name, SPEC)(photo)
    with seeded(3):
        assert torch.equal(sent(photo), expected)


def test_another_name_is_refused() -> None:
    with pytest.raises(DataError) as refused:
        augmentation("standart", SPEC)
    assert str(refused.value) == (
        "there is no augmentation 'standart'\n  where: data.augment\n  mend:  did you mean 'standard'?"
    )
