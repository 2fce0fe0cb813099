"""Fixtures that many tests share."""

from pathlib import Path

import pytest

from zoo.registry import Registry, load_registry


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Only zoo's own parts: what else is installed does not matter to a test."""
    return load_registry(candidates=())


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).resolve().parents[1]
