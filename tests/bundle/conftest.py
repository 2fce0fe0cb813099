"""A really trained tiny network, and bundles of it."""

from pathlib import Path

import pytest

from tests.bundle.photos import write_photos

RECIPE = """\
format = 1

[run]
name = "tiny"
epochs = 4
batch_size = 6
ema = 0.8

[backbone]
use = "timm"
arch = "test_efficientnet"

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

[[export]]
use = "safetensors"
weights = "last"

[[export]]
use = "torchscript"
weights = "last"

[[export]]
use = "torchscript"
weights = "last"
preprocess = true
"""


@pytest.fixture(scope="session")
def run(tmp_path_factory, registry) -> Path:
    """The folder of a run with a moving average; its export/ is the bundle of the raw weights."""
    from zoo.recipe import load_recipe
    from zoo.run.finetuning import finetune

    root = tmp_path_factory.mktemp("trained")
    recipe = root / "tiny.toml"
    recipe.write_text(RECIPE.format(root=write_photos(root / "photos")))
    finetune(load_recipe(recipe, registry), root / "run", registry=registry)
    return root / "run"


@pytest.fixture(scope="session")
def bundle(run) -> Path:
    """The bundle of the raw weights."""
    return run / "export"
