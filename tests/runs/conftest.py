"""Small, real runs: a tiny ResNet on a few dozen image files."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RECIPE = """\
format = 1

[run]
name = "tiny"
epochs = 2
batch_size = 8

[backbone]
use = "timm"
arch = "test_resnet"

[data]
use = "imagefolder"
root = "{root}"
image_size = 32
workers = 0

[optim]
lr = 3e-3

[device]
device = "cpu"
precision = "fp32"
channels_last = false
"""


def write_images(folder: Path, count: int, side: int = 40) -> None:
    """Two classes that a tiny network can tell apart: bright above, bright below."""
    generator = np.random.default_rng(0)
    for name in ("above", "below"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 100, (side, side, 3), dtype=np.uint8)
            half = slice(0, side // 2) if name == "above" else slice(side // 2, side)
            pixels[half] += 120
            Image.fromarray(pixels).save(folder / name / f"{index:02d}.png")


def write_photos(root: Path) -> Path:
    """A folder with train/ (2 × 16 images) and val/ (2 × 6)."""
    write_images(root / "train", 16)
    write_images(root / "val", 6)
    return root


def write_recipe(folder: Path, photos: Path) -> Path:
    """A recipe for those photos."""
    path = folder / "tiny.toml"
    path.write_text(RECIPE.format(root=photos))
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    """Photos of a test's own."""
    return write_photos(tmp_path / "photos")


@pytest.fixture
def recipe(tmp_path, photos) -> Path:
    """A recipe for those photos."""
    return write_recipe(tmp_path, photos)


@pytest.fixture
def zoo(capsys, monkeypatch, tmp_path):
    """Call the command in this process, in a folder of its own; return (exit status, standard output, error)."""
    from zoo.cli.main import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {**os.environ, "HF_HUB_OFFLINE": "1"})

    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call
