"""A right bundle passes: architectures, sizes, interpolations, and validation images in every encoding."""

from itertools import product
from typing import Any

import pytest
import torch

from tests.bundle.made import formats, write
from tests.bundle.photos import KINDS, photos
from zoo.bundle import opened
from zoo.data import Preprocess
from zoo.registry.contracts import InputSpec
from zoo.run.bundles import load, verify

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
ARCHITECTURES = ("timm/test_resnet", "timm/test_efficientnet", "timm/test_vit", "torchvision/resnet18")
SIZES = ((32, 32), (48, 64))
LARGE = ("torchvision/resnet18", (48, 64))  # test_card.py has one that is not square, too


def passes(path: Any, registry: Any, count: int) -> None:
    outcomes = verify(path, registry=registry)
    assert {(outcome.ok, outcome.images) for outcome in outcomes} == {(True, count)}
    assert max(outcome.difference for outcome in outcomes) < 2e-5


PAIRS = [pytest.param(*pair, marks=[pytest.mark.slow] * (pair == LARGE)) for pair in product(ARCHITECTURES, SIZES)]


@pytest.mark.parametrize(("arch", "size"), PAIRS)
def test_architectures_and_sizes(tmp_path, registry, arch: str, size: Any) -> None:
    spec = InputSpec(size, interpolation="bicubic")
    write(tmp_path / "bundle", formats(registry, "safetensors"), arch, spec, photos(2, "jpeg", "png"))
    passes(tmp_path / "bundle", registry, 10)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_interpolations(tmp_path, registry, size: Any, interpolation: Any) -> None:
    spec = InputSpec(size, interpolation=interpolation, crop_pct=0.9)
    write(tmp_path / "bundle", formats(registry, "pth"), spec=spec, split=photos(3, "jpeg", "turned", "rgba"))
    passes(tmp_path / "bundle", registry, 11)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", ["torchscript", pytest.param("pt2", marks=pytest.mark.slow)])
def test_graphs_of_photos_in_every_encoding(tmp_path, registry, name: str, inside: bool) -> None:
    write(tmp_path / "bundle", formats(registry, (name, {"preprocess": inside})), split=photos(8, *KINDS))
    passes(tmp_path / "bundle", registry, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_one_validation_image_of_any_encoding(tmp_path, registry, kind: str) -> None:
    write(tmp_path / "bundle", formats(registry, "safetensors"), split=photos(1, kind))
    passes(tmp_path / "bundle", registry, 9)


@pytest.mark.parametrize(("width", "height"), [(32, 32), (5, 7), (900, 20), (20, 900), (1, 1), (36, 37)])
def test_photos_of_any_size(tmp_path, registry, width: int, height: int) -> None:
    split = photos(2, "jpeg", "png", width=width, height=height)
    write(tmp_path / "bundle", formats(registry, "safetensors"), split=split)
    passes(tmp_path / "bundle", registry, 10)


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33])
def test_a_batch_of_any_size_gives_the_same_logits(tmp_path, registry, count: int) -> None:
    write(tmp_path / "bundle", formats(registry, "safetensors"))
    with opened(tmp_path / "bundle", registry) as found:
        golden = found.golden()
    predictor = load(tmp_path / "bundle", device="cpu", registry=registry)
    images = [golden.images[index % len(golden.images)] for index in range(count)]
    logits = predictor.logits([predictor.decode(image.data) for image in images])
    expected = torch.tensor([golden.logits["model.safetensors"][index % len(golden.images)] for index in range(count)])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_a_user_s_own_pipeline_over_preprocess_passes(tmp_path, registry) -> None:
    write(tmp_path / "bundle", formats(registry, "safetensors"), split=photos(4, *KINDS))
    predictor = load(tmp_path / "bundle", device="cpu", registry=registry)
    preprocess = Preprocess(predictor.input)

    def predict(data: bytes) -> dict[str, float]:
        from zoo.data import open_image

        with torch.inference_mode():
            row = predictor._network(preprocess.normalise(preprocess.shape(open_image(data))[None]))[0].tolist()
        return dict(zip(predictor.classes, row, strict=True))

    (outcome,) = verify(tmp_path / "bundle", predict, registry=registry)
    assert (outcome.ok, outcome.runtime) == (True, "yours")
