from pathlib import Path

import pytest

from zoo.recipe import Recipe, read_recipe, resolve

SMALL = """\
format = 1

[run]
name = "small"
epochs = 1

[backbone]
use = "timm"
arch = "test_resnet"

[data]
use = "digits"
"""


@pytest.fixture
def small(tmp_path) -> Path:
    """A recipe that names only what it must."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def read(registry, small):
    """Write text to a recipe and resolve it, with settings on top."""

    def read(text: str = SMALL, *sets: str) -> Recipe:
        small.write_text(text)
        return resolve(read_recipe(small, sets), registry)

    return read
