from pathlib import Path

import pytest
import skimage
import timm.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from zoo.data.preprocess import Preprocess, covering_size
from zoo.registry.contracts import InputSpec, Interpolation

PHOTOS = Path(skimage.__file__).parent / "data"


@pytest.mark.parametrize("size", [(224, 224), (96, 160)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
@pytest.mark.parametrize("name", ["rocket.jpg", "astronaut.png"])
def test_photos_come_out_as_timms_evaluation_has_them(
    name: str, crop_pct: float, interpolation: Interpolation, size: tuple[int, int]
) -> None:
    image = Image.open(PHOTOS / name).convert("RGB")
    theirs = timm.data.create_transform(
        (3, *size), interpolation=interpolation, crop_pct=crop_pct, use_prefetcher=True, is_training=False
    )
    expected = torch.as_tensor(theirs(image)).int()
    found = Preprocess(InputSpec(size=size, interpolation=interpolation, crop_pct=crop_pct)).shape(image)
    assert found.dtype == torch.uint8
    difference = (found.int() - expected).abs()
    assert difference.max() <= (2 if interpolation in ("bilinear", "bicubic") else 0)
    assert difference.float().mean() < 0.01


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    crop_pct=st.floats(0.5, 1),
    mode=st.sampled_from(["RGB", "L", "RGBA", "1"]),
)
@settings(max_examples=30, deadline=None)
def test_any_image_comes_out_at_the_size(
    height: int, width: int, size: tuple[int, int], crop_pct: float, mode: str
) -> None:
    shaped = Preprocess(InputSpec(size=size, crop_pct=crop_pct)).shape(Image.new(mode, (width, height), 0))
    assert shaped.shape == (3, *size)


@given(
    size=st.tuples(st.integers(1, 500), st.integers(1, 500)), cover=st.tuples(st.integers(1, 300), st.integers(1, 300))
)
@settings(max_examples=30)
def test_the_resized_image_covers_and_touches(size: tuple[int, int], cover: tuple[int, int]) -> None:
    height, width = covering_size(size, cover)
    assert height >= cover[0]
    assert width >= cover[1]
    assert height == cover[0] or width == cover[1]


def test_an_image_at_size_is_untouched() -> None:
    image = Image.open(PHOTOS / "astronaut.png").convert("RGB").crop((0, 0, 64, 64))
    assert torch.equal(Preprocess(InputSpec(size=(64, 64), crop_pct=1)).shape(image), functional.pil_to_tensor(image))


def test_a_thread_of_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^100000 × 1 pixels are too long and thin to cover 256 × 256$"):
        Preprocess(InputSpec()).shape(Image.new("L", (100_000, 1)))


def test_normalising_is_torchvisions() -> None:
    spec = InputSpec()
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    expected = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec.mean, spec.std)])(images)
    torch.testing.assert_close(Preprocess(spec).normalise(images), expected, rtol=1e-6, atol=1e-6)


def test_normalising_keeps_the_memory_format_and_the_images() -> None:
    images = torch.full((2, 3, 8, 8), 7, dtype=torch.uint8).to(memory_format=torch.channels_last)
    normalised = Preprocess(InputSpec()).normalise(images)
    assert normalised.dtype == torch.float32
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert images.unique().tolist() == [7]


def test_normalising_twice_is_refused() -> None:
    preprocess = Preprocess(InputSpec())
    once = preprocess.normalise(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"^images to normalise are uint8, 0 to 255, not torch.float32$"):
        preprocess.normalise(once)
