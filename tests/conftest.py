"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from zoo.registry import Registry, load_registry

# What tests train is so small that more threads only wait for each other. To be said before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says how busy the machine is. The same examples each time: what fails is due to the change
# at hand. `--hypothesis-profile explore` looks for others.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("explore"), derandomize=True, database=None)
settings.load_profile("same")


LONG = 600
"""Seconds; a test that is given as many may take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long ones: a process that is left with one at the end lets the other wait."""
    items.sort(key=lambda item: not any(mark.args[0] >= LONG for mark in item.iter_markers("timeout")))


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Only zoo's own parts: what else is installed does not matter to a test."""
    return load_registry(candidates=())


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def zoo(capsys):
    """Call the command in this process; return (exit status, standard output, standard error)."""
    from zoo.cli.main import run

    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call
