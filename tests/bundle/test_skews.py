"""Fourteen skews: each is caught by replaying golden images, and none by comparing random tensors."""

import re
from pathlib import Path

import pytest
import torch

from tests.bundle.skews import FURTHER, SKEWS, Skewed, Source, deployed_with, noise
from zoo.errors import ZooError
from zoo.export.native import TOLERANCES
from zoo.run.bundles import verify
from zoo.run.exporting import export_run
from zoo.run.folder import RunFolder

EVERY = "every image fails: other weights, other preprocessing or another order of classes"
SOME = "some images fail: another size, crop or interpolation perhaps"
FAULT = re.compile(
    r"(?P<file>\S+) \([^)]*\): (logits differ by \S+ of the largest, more than 0\.001"
    r"(, and it says '\w+' instead of '\w+')?|it gives logits that are not finite)"
)

CAUSES = {
    "fp16 overflow": "numbers leave their range: those of float16 perhaps, or its weights are not finite themselves",
    "bilinear for bicubic": SOME,
    "EXIF ignored": "the EXIF orientation is ignored",
    "grey otherwise": "greys do not become RGB by repeating them",
    "alpha over black": "transparency is not laid over white",
    "alpha dropped": "transparency is not laid over white",
    "16 bits otherwise": "16-bit greys do not keep their upper byte",
    "CMYK for RGB": "CMYK becomes RGB in another way",
}
"""What is named as the likely cause; where nothing stands, every image fails."""

FAIL = {
    "EXIF ignored": {"sideways.jpg"},
    "grey otherwise": {"grey.png", "grey16.png"},
    "alpha over black": {"transparent.png", "palette.png"},
    "alpha dropped": {"transparent.png", "palette.png"},
    "16 bits otherwise": {"grey16.png"},
    "CMYK for RGB": {"cmyk.jpg"},
}
"""The only images that fail, where these are of one kind."""


@pytest.fixture(scope="module")
def source(run, bundle, registry, tmp_path_factory) -> Source:
    averaged = tmp_path_factory.mktemp("averaged") / "bundle"
    export_run(RunFolder(run), registry, ["safetensors"], averaged, "ema")
    return Source(bundle, averaged, registry)


@pytest.fixture(scope="module")
def skewed(source, tmp_path_factory):
    """Return the skew of a name; each is made once."""
    folder = tmp_path_factory.mktemp("skewed")
    made: dict[str, Skewed] = {}

    def get(name: str) -> Skewed:
        if name not in made:
            made[name] = {**SKEWS, **FURTHER}[name](source, folder / name.replace(" ", "-"))
        return made[name]

    return get


def test_there_are_fourteen() -> None:
    assert len(SKEWS) == 14


@pytest.mark.parametrize("name", [*SKEWS, *FURTHER])
def test_verify_catches_it(name: str, skewed, zoo, registry) -> None:
    found = skewed(name)
    lines = said_in_process(zoo, found) if found.predict is None else said_of_code(found, registry)
    failed = {fault["file"] for fault in map(FAULT.fullmatch, lines[::3])}
    assert failed == FAIL.get(name, failed)
    assert len(failed) == 16 or name in CAUSES
    assert set(lines[2::3]) == {f"  mend:  likely: {CAUSES.get(name, EVERY)}"}
    assert len(set(lines[1::3])) == 1


def said_in_process(zoo, found: Skewed) -> list[str]:
    """Return what `zoo verify` says on standard error, without how many errors there are."""
    status, out, err = zoo("verify", found.path)
    assert status == 2
    assert re.fullmatch(r"\S+ +\w+  16 images  logits differ by \S+  no\n", out)
    lines = err.splitlines()
    if lines[-1] == f"{len(lines) // 3} errors":
        lines.pop()
    return [line.removeprefix("error: ") for line in lines]


def said_of_code(found: Skewed, registry) -> list[str]:
    with pytest.raises(ZooError) as caught:
        verify(found.path, found.predict, registry=registry)
    assert {problem.where for problem in caught.value.problems} == {"model.safetensors (yours)"}
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", SKEWS)
def test_random_tensors_do_not_catch_it(name: str, skewed, source) -> None:
    found = skewed(name)
    images = noise(source.spec, 16)
    with torch.inference_mode():
        deployed, expected = found.deployed(images), found.given(images)
    assert float((deployed - expected).abs().max() / expected.abs().max()) <= found.tolerance


def test_half_precision_leaves_its_range_on_some_images_and_only_rounds_on_the_others(skewed, registry) -> None:
    with pytest.raises(ZooError) as caught:
        verify(skewed("fp16 overflow").path, registry=registry)
    rounded = [problem.what for problem in caught.value.problems if "not finite" not in problem.what]
    assert len(rounded) < len(caught.value.problems) < 16
    assert all(float(re.findall(r"differ by (\S+) of", what)[0]) < TOLERANCES["float16"] for what in rounded)


def test_a_network_in_eval_mode_shows_the_batch_norms_even_on_random_tensors(skewed, source) -> None:
    """The one skew that a comparison on random tensors could catch, if it were set up by who does not make it."""
    images = noise(source.spec, 16)
    with torch.inference_mode():
        deployed, expected = skewed("train-mode BN").deployed(images), source.network()(images)
    assert float((deployed - expected).abs().max() / expected.abs().max()) > 0.01


def test_a_right_deployment_passes(source, registry, tmp_path: Path) -> None:
    found = deployed_with()(source, tmp_path / "right")
    (outcome,) = verify(found.path, found.predict, registry=registry)
    assert (outcome.ok, outcome.runtime, outcome.images, outcome.cause) == (True, "yours", 16, "")
    assert outcome.difference < 1e-5


def test_the_bundle_that_the_skews_are_made_from_passes(bundle, zoo) -> None:
    status, out, err = zoo("verify", bundle)
    assert (status, err) == (0, "")
    assert [line.split()[-1] for line in out.splitlines()] == ["ok"] * 3
