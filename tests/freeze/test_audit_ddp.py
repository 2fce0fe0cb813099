"""The audit in two real processes: they agree when a thaw wraps the model anew, and are caught when it does not."""

from pathlib import Path

import pytest
from torch import nn

from tests.devices.together import together
from tests.train.tiny import SETTINGS, make_job
from zoo.devices.ddp import DDP
from zoo.errors import RunError
from zoo.freeze.thawing import gradual
from zoo.registry.builtin.devices import ProcessesOptions
from zoo.registry.builtin.freeze import GradualOptions
from zoo.train.loop import Loop


class Stale(DDP):
    """Keeps the wrapper of the first phase."""

    def wrap(self, module: nn.Module) -> nn.Module:
        return self._wrapper or super().wrap(module)


def train(folder: Path, strategy: type[DDP]) -> str:
    thaw = gradual(GradualOptions(thaw={"layer4": 0, "layer3": 1}))
    try:
        Loop(make_job(folder, policy=thaw, strategy=strategy(ProcessesOptions(), SETTINGS))).fit()
    except RunError as error:
        return error.problems[0].what
    return "agreed"


@pytest.mark.slow
def test_two_processes_agree_through_a_thaw(tmp_path: Path) -> None:
    assert together(tmp_path / "together", 2, train, tmp_path / "run", DDP) == ["agreed", "agreed"]


@pytest.mark.slow
def test_a_thaw_that_one_wrapper_does_not_know_of_is_caught_in_both(tmp_path: Path) -> None:
    """The wrapper of the first phase averages only what trained then (Lightning#20340)."""
    for said in together(tmp_path / "together", 2, train, tmp_path / "run", Stale):
        when, what, names = said.split(": ")
        assert (when, what) == ("step 4", "not the same in all processes")
        assert names.startswith("backbone.layer3.")
