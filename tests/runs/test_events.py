"""What a run tells its callbacks of itself: plain data and copies."""

from pathlib import Path
from typing import Any

import pytest
import tomli
import torch
from torch import nn

from tests.devices.together import together
from tests.runs.conftest import write_photos, write_recipe
from tests.train.tiny import SETTINGS
from zoo.callbacks import make_events
from zoo.devices.fsdp import build as fsdp
from zoo.errors import RunError
from zoo.recipe import load_recipe
from zoo.registry import Candidate, Owner, load_registry
from zoo.registry.builtin.devices import ProcessesOptions
from zoo.registry.events import MistakesFound, RunStarted, StepEnded
from zoo.registry.hookspecs import hookimpl
from zoo.registry.parts import CallbackPart, NoOptions
from zoo.run import finetune, steps
from zoo.run.folder import RunFolder
from zoo.run.network import alone
from zoo.run.trained import load_trained

LORA = ("backbone.arch=test_vit", 'freeze={use="lora",rank=2,alpha=8.0}')
SIDES = ("run.epochs=1", "data.targets={side={down=['below'],up=['above']}}", "head=[{use='linear',target='side'}]")


class Curious:
    """Keeps what it is told; the network at the start and after the last step."""

    def __init__(self) -> None:
        self.steps: list[StepEnded] = []
        self.networks: list[nn.Module] = []
        self.unmoved = False

    @hookimpl
    def run_started(self, event: RunStarted) -> None:
        self.started = event
        before = torch.get_rng_state()
        self.networks.append(event.network())
        self.unmoved = torch.equal(before, torch.get_rng_state())

    @hookimpl
    def step_ended(self, event: StepEnded) -> None:
        self.steps.append(event)

    @hookimpl
    def mistakes_found(self, event: MistakesFound) -> None:
        self.networks.append(self.started.network())


@pytest.fixture
def curious(monkeypatch: pytest.MonkeyPatch) -> Curious:
    """A callback of every run of the test."""
    found = Curious()
    monkeypatch.setattr(steps, "make_events", lambda callbacks: make_events({**callbacks, "curious": found}))
    return found


@pytest.mark.parametrize("sets", [(), LORA], ids=["all", "lora"])
def test_a_run_tells_its_recipe_classes_preprocessing_and_network(
    curious: Curious, recipe: Path, tmp_path: Path, registry: Any, sets: tuple[str, ...]
) -> None:
    finetune(load_recipe(recipe, registry, sets=sets), tmp_path / "run", registry=registry)
    started, folder = curious.started, RunFolder(tmp_path / "run")
    assert started.recipe == tomli.loads((folder.path / "recipe.toml").read_text())
    assert started.classes == ("above", "below")
    assert started.input.size == (32, 32)
    assert curious.unmoved
    first, *_, last = curious.networks
    assert not any(module.training for module in last.modules())
    trained = load_trained(folder, registry, "last")
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(last(images), trained.logits(images))
        assert not torch.equal(first(images), last(images))
    assert not [name for name in last.state_dict() if "parametrizations" in name]


def test_classes_are_those_of_the_first_head(curious: Curious, recipe: Path, tmp_path: Path) -> None:
    finetune(load_recipe(recipe, sets=SIDES), tmp_path / "run")
    assert curious.started.classes == ("down", "up")


def test_rates_go_by_the_multiple_of_the_runs_own(curious: Curious, recipe: Path, tmp_path: Path) -> None:
    finetune(load_recipe(recipe, sets=['freeze={use="two-phase",head_epochs=1,rate=0.1}']), tmp_path / "run")
    for step in curious.steps:
        thawed = 0.1 if step.epoch else 0.0
        assert step.rates == {"x0_x0.1": pytest.approx(step.lr * thawed), "x1_x1": step.lr}


def first_values(folder: Path, recipe: Path) -> list[str]:
    """Names of tensors that a network of its own has from the model, which is sharded."""
    chosen = load_recipe(recipe)
    backbone, file = steps.fetch(chosen)
    gathered = steps.gather(chosen, backbone.input)
    network, _ = steps.assemble(chosen, backbone, file, gathered)
    steps.freeze(chosen, network)
    first = alone(chosen, network, backbone.input).state_dict()
    steps.settle(chosen, fsdp(ProcessesOptions(timeout=60), SETTINGS), network)
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.add_(1)
    found = alone(chosen, network, backbone.input).state_dict()
    return [name for name in first if not torch.equal(first[name], found[name])]


@pytest.mark.slow
def test_a_sharded_network_is_told_with_first_values(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, write_photos(tmp_path / "photos"))
    recipe.write_text(recipe.read_text() + '\n[weights]\nuse = "none"\n')
    assert together(tmp_path / "together", 2, first_values, tmp_path, recipe) == [[], []]


class Noting:
    """A callback that keeps a folder of its own in the run's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "noting"

    @hookimpl
    def run_started(self, event: RunStarted) -> None:
        self.folder.mkdir()


def build_noting(_: NoOptions, folder: Path) -> Noting:
    return Noting(folder)


class NotingPlugin:
    @hookimpl
    def zoo_callbacks(self) -> list[CallbackPart]:
        return [CallbackPart("noting", build="tests.runs.test_events:build_noting")]


def test_what_a_callback_keeps_under_its_own_name_is_the_runs(recipe: Path, tmp_path: Path) -> None:
    registry = load_registry(candidates=[Candidate(Owner("notes", "1", "notes"), NotingPlugin)])
    noted = load_recipe(recipe, registry, ["callback=[{use='noting'}]", "run.epochs=1"])
    run = tmp_path / "run"
    for overwrite in (False, True):  # the folder is made anew
        finetune(noted, run, registry=registry, overwrite=overwrite)
        assert (run / "noting").is_dir()
    (run / "recipe.toml").write_text('callback = [{use = ".."}, {use = "a/b"}]\n')
    with pytest.raises(RunError) as refused:
        finetune(noted, run, registry=registry, overwrite=True)
    assert str(refused.value) == (
        f"'{run}' holds what is not a run's: noting\n  mend:  choose another folder with --out"
    )
