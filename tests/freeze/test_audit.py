"""The audit: every way to break freezing is caught and named, and nothing else is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.train.tiny import make_loop, resumed
from zoo.errors import RunError
from zoo.freeze.plan import Rules
from zoo.freeze.policies import head, none, stages, zero_lr
from zoo.freeze.still import follow, release
from zoo.freeze.thawing import two_phase
from zoo.recipe.schema import OptimTable
from zoo.registry.builtin.freeze import HeadOptions, StagesOptions, TwoPhaseOptions, ZeroLrOptions
from zoo.registry.contracts import FreezePolicy
from zoo.registry.hookspecs import hookimpl
from zoo.registry.parts import NoOptions
from zoo.train.loop import Loop

FROZEN = ["conv1", "bn1", "layer1"]
FIRST = stages(StagesOptions(frozen=FROZEN))
ZERO = zero_lr(ZeroLrOptions(frozen=FROZEN))
HEAD = head(HeadOptions())
TWO = two_phase(TwoPhaseOptions())
SGD = OptimTable(use="sgd", lr=1e-2, momentum=0.9, weight_decay=0.1)
Break = Callable[[Loop], Any]


class Callback:
    """Does something to the loop at an event."""

    def __init__(self, step: Break | None = None, epoch: Break | None = None) -> None:
        self.loop: Loop | None = None
        self._step = step
        self._epoch = epoch

    @hookimpl
    def step_ended(self, event: Any) -> None:
        if self._step and self.loop:
            self._step(self.loop)

    @hookimpl
    def epoch_started(self, event: Any) -> None:
        if self._epoch and self.loop:
            self._epoch(self.loop)


def run(folder: Path, breaking: Break | None = None, callback: Callback | None = None, **keys: Any) -> Loop:
    loop = make_loop(folder, callbacks={"breaking": callback} if callback else {}, **keys)
    if callback:
        callback.loop = loop
    if breaking:
        breaking(loop)
    loop.fit()
    return loop


def part(loop: Loop, name: str) -> Any:
    return loop.job.model.get_submodule(f"backbone.{name}")


def parameters(loop: Loop, prefix: str) -> list[nn.Parameter]:
    return [p for name, p in loop.job.model.named_parameters() if name.startswith(prefix)]


def nudge(loop: Loop, name: str) -> None:
    with torch.no_grad():
        part(loop, name).weight.view(-1)[0] += 1e-6


def release_norms(loop: Loop) -> None:
    for module in loop.job.model.modules():
        release(module)
    loop.job.model.train()


def force_training(loop: Loop) -> None:
    part(loop, "layer1.0.bn1").training = True


def unfreeze(loop: Loop) -> None:
    for parameter in parameters(loop, "backbone.layer1"):
        parameter.requires_grad_(True)


def freeze_more(loop: Loop) -> None:
    for parameter in parameters(loop, "backbone.layer4"):
        parameter.requires_grad_(False)


def drop_group(loop: Loop) -> None:
    loop.job.optimizer.param_groups.pop()


def drop_parameter(loop: Loop) -> None:
    loop.job.optimizer.param_groups[0]["params"].pop()


def hold_twice(loop: Loop) -> None:
    group = loop.job.optimizer.param_groups[0]
    group["params"].append(group["params"][0])


def other_rate(loop: Loop) -> None:
    loop.job.optimizer.param_groups[0]["rates"] = (0.5,)


def stale_tensors(loop: Loop) -> None:
    """As after a model was copied when the optimiser had been made."""
    layer = part(loop, "layer4.0.conv1")
    layer.weight = nn.Parameter(layer.weight.detach().clone())


def skip_parameter(loop: Loop) -> None:
    """As an optimiser does that takes the tensors it steps from somewhere else."""
    step, weight = loop.job.optimizer.step, parameters(loop, "heads.main")[0]

    def stepping(*given: Any) -> None:
        before = weight.detach().clone()
        step(*given)
        with torch.no_grad():
            weight.copy_(before)

    loop.job.optimizer.step = stepping  # type: ignore[method-assign, assignment]


def detach_features(loop: Loop) -> None:
    """As a head does that was written for features made before."""
    main = loop.job.model.heads["main"]
    forward = main.forward
    main.forward = lambda features: forward(features.detach())


def old_graph(loop: Loop) -> None:
    """As a compiled or wrapped model does that was made when the backbone was frozen: it gives it no gradient."""
    backbone = loop.job.model.backbone
    forward = backbone.forward

    def without_gradients(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return forward(images)  # type: ignore[no-any-return]

    backbone.forward = without_gradients  # type: ignore[method-assign]


def share_a_tensor(loop: Loop) -> None:
    """A frozen stage gets a view of the memory of one that trains."""
    layer = part(loop, "layer1.0.bn1")
    layer.weight.data = part(loop, "layer4.0.bn1").weight.data[: layer.num_features]


def keep_zero_gradients(loop: Loop) -> None:
    """Gradients that are zero, and not None: the momentum of the phase before goes on moving what is frozen now."""
    zero_grad = loop.job.optimizer.zero_grad
    loop.job.optimizer.zero_grad = lambda set_to_none=True: zero_grad(set_to_none=False)  # type: ignore[method-assign]


def move_average(loop: Loop) -> None:
    average = loop.evaluated.get_submodule("backbone.layer1.0.bn1")
    average.running_mean.add_(1e-3)


def decay_at_rate_zero(loop: Loop) -> None:
    """An optimiser whose decay does not go by the rate."""
    step = loop.job.optimizer.step

    def stepping(*given: Any) -> None:
        step(*given)
        with torch.no_grad():
            for group in loop.job.optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(1 - 1e-4)

    loop.job.optimizer.step = stepping  # type: ignore[method-assign, assignment]


def clamp_weights(loop: Loop) -> None:
    """As weight clipping and spectral norms do, to all there is."""
    with torch.no_grad():
        for parameter in loop.job.model.parameters():
            parameter.clamp_(-0.01, 0.01)


def load_weights_again(loop: Loop) -> None:
    state = {
        name: value + 1 if "layer1.0.bn1" in name else value for name, value in loop.job.model.state_dict().items()
    }
    loop.job.model.load_state_dict(state)


def momentum_of_norms(loop: Loop) -> None:
    """Statistics that a forward in training mode outside of the loop moves."""
    layer = part(loop, "layer1.0.bn1")
    nn.functional.batch_norm(
        torch.randn(4, layer.num_features, 2, 2), layer.running_mean, layer.running_var, training=True
    )


def put_tracked_to_sleep(loop: Loop) -> None:
    loop.job.model.backbone.eval()


def policy_back(epochs: tuple[FreezePolicy, ...]) -> FreezePolicy:
    """One policy an epoch."""
    return lambda layout, epoch: epochs[min(epoch, len(epochs) - 1)](layout, epoch)


def at_step(breaking: Break) -> dict[str, Any]:
    return {"callback": Callback(step=breaking)}


def at_epoch(breaking: Break) -> dict[str, Any]:
    return {"callback": Callback(epoch=breaking)}


FIRST_STEP = "the phase's first step"
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a callback moves a frozen weight": ({**at_step(lambda loop: nudge(loop, "layer1.0.conv1"))}, "frozen, but moved"),
    "statistics are let go": (at_step(release_norms), "frozen, but moved"),
    "statistics are let go before the first step": (at_epoch(release_norms), "frozen, but moved"),
    "a norm is put in training mode by its attribute": (at_step(force_training), "frozen, but moved"),
    "statistics move outside of the loop": (at_step(momentum_of_norms), "frozen, but moved"),
    "a head un-freezes the backbone": (at_epoch(unfreeze), "frozen, but with a gradient"),
    "a callback freezes what is to be trained": (
        {**at_epoch(freeze_more)},
        "to be trained, but requires_grad is False",
    ),
    "a group is missing": ({"breaking": drop_group}, "to be trained, but not in the optimiser"),
    "a parameter is missing": ({"breaking": drop_parameter}, "to be trained, but not in the optimiser"),
    "a parameter is held twice": ({"breaking": hold_twice}, "in the optimiser more than once"),
    "a group has another rate": ({"breaking": other_rate}, "not at its rate in the optimiser"),
    "the optimiser holds old tensors": ({"breaking": stale_tensors}, "to be trained, but not in the optimiser"),
    "a step leaves a parameter out": ({"breaking": skip_parameter}, "to be trained, but not moved"),
    "a head detaches the features": ({"breaking": detach_features}, "to be trained, but without a gradient"),
    "a graph from before the thaw": (
        {"policy": TWO, "breaking": old_graph},
        "to be trained, but without a gradient",
    ),
    "stages share memory": ({"breaking": share_a_tensor}, "frozen, but moved"),
    "momentum left from a former phase": (
        {"policy": policy_back((none(NoOptions()), HEAD)), "optim": SGD, "breaking": keep_zero_gradients},
        "frozen, but",
    ),
    "the moving average of something frozen moves": (
        {"ema": 0.5, **at_step(move_average)},
        "frozen, but its moving average moved",
    ),
    "weight decay at rate zero": ({"policy": ZERO, "breaking": decay_at_rate_zero}, "frozen, but moved"),
    "an optimiser that moves at rate zero": (
        {"policy": ZERO, "optim": OptimTable(use="rprop", lr=1e-2, weight_decay=0.0)},
        "frozen, but moved",
    ),
    "weights are clipped": (at_step(clamp_weights), "frozen, but moved"),
    "other weights are loaded": (at_step(load_weights_again), "frozen, but moved"),
    "tracked statistics sleep": (
        {"rules": Rules("track"), **at_epoch(put_tracked_to_sleep)},
        "to track its statistics, but in eval mode",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_way_to_break_freezing_is_caught(fault: str, tmp_path: Path) -> None:
    keys, what = FAULTS[fault]
    with pytest.raises(RunError) as caught:
        run(tmp_path, **{"policy": FIRST, **keys})
    when, found, names = caught.value.problems[0].what.split(": ")
    assert found.startswith(what), str(caught.value)
    assert when == FIRST_STEP or when.startswith(("step ", "the end of the phase"))
    assert names.startswith(("backbone.", "heads."))
    assert caught.value.problems[0].where == "[freeze]"


def test_without_a_fault_the_same_runs_pass(tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [{"policy": FIRST}, {"policy": ZERO}, {"policy": TWO}, {"policy": FIRST, "ema": 0.5}]
    for place, keys in enumerate([*kinds, {"policy": policy_back((none(NoOptions()), HEAD)), "optim": SGD}]):
        report = run(tmp_path / str(place), **keys).audit.report()
        assert report["held"]
        assert all(phase["moved"] for phase in report["phases"])


def test_the_whole_message(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        run(tmp_path, policy=FIRST, callback=Callback(step=lambda loop: nudge(loop, "layer1.0.conv1")))
    assert str(caught.value) == (
        "step 3: frozen, but moved: backbone.layer1.0.conv1.weight\n  where: [freeze]\n"
        '  mend:  leave it out of the optimiser (freeze.use = "stages" or "head"), or choose another [optim] use'
    )


def test_calling_train_in_a_callback_is_harmless(tmp_path: Path) -> None:
    """It cannot wake what the plan holds, so there is nothing to catch."""
    callback = Callback(step=lambda loop: [module.train() for module in loop.job.model.modules()])
    assert run(tmp_path, policy=FIRST, callback=callback).audit.report()["held"]


def test_the_processes_must_agree(tmp_path: Path) -> None:
    """Two processes of which one did not thaw: their digests differ after the step. Real ones come with DDP."""
    loop = make_loop(tmp_path, policy=FIRST)
    loop.audit._gather = lambda value: [value, value and {**value, "backbone.layer2.0.conv1.weight": "other"}]
    with pytest.raises(RunError) as caught:
        loop.fit()
    assert str(caught.value) == (
        "step 1: not the same in all processes: backbone.layer2.0.conv1.weight\n"
        "  where: [freeze]\n  mend:  wrap the model anew when a phase begins"
    )


def test_what_drifts_by_the_recipe_is_said_and_is_no_violation(tmp_path: Path) -> None:
    report = run(tmp_path, policy=HEAD, rules=Rules("track")).audit.report()
    assert report["held"]
    assert "backbone.layer1.0.bn1.running_mean" in report["drifted"]
    assert run(tmp_path / "fixed", policy=HEAD).audit.report()["drifted"] == []


def test_the_report_has_every_frozen_tensor_at_start_and_end(tmp_path: Path) -> None:
    loop = run(tmp_path, policy=TWO)
    report = loop.audit.report()
    assert [(phase["first"], phase["step"]) for phase in report["phases"]] == [(0, 1), (1, 4)]
    assert report["frozen"] == {}  # nothing is frozen throughout
    report = run(tmp_path / "first", policy=FIRST).audit.report()
    assert {name.split(".")[1] for name in report["frozen"]} == set(FROZEN)
    assert all(entry["start"] == entry["end"] for entry in report["frozen"].values())


def test_a_resume_lands_in_its_phase_and_is_compared_with_the_start(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", policy=TWO, epochs=3)
    make_loop(tmp_path / "part", policy=TWO, epochs=3)
    part_run = make_loop(tmp_path / "part", policy=TWO, epochs=3)
    for epoch in (0, 1):
        part_run._epoch(epoch)
    part_run._settle()
    second = resumed(tmp_path / "part", policy=TWO, epochs=3)
    second.fit()
    for (name, value), other in zip(
        whole.job.model.state_dict().items(), second.job.model.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name
    assert second.audit.report()["phases"] == whole.audit.report()["phases"]


def test_a_checkpoint_whose_frozen_weights_were_changed_is_refused(tmp_path: Path) -> None:
    begun = make_loop(tmp_path, policy=FIRST)
    begun._epoch(0)
    begun._settle()
    loop = resumed(tmp_path, policy=FIRST)
    nudge(loop, "layer1.0.conv1")
    with pytest.raises(RunError) as caught:
        loop.fit()
    assert caught.value.problems[0].what == "the resume: frozen, but moved: backbone.layer1.0.conv1.weight"


def test_the_average_of_what_was_trained_before_it_froze_is_still_on_its_way(tmp_path: Path) -> None:
    back = policy_back((none(NoOptions()), HEAD))
    assert run(tmp_path, policy=back, ema=0.9).audit.report()["held"]


def test_a_gradient_too_small_to_move_anything_is_no_violation(tmp_path: Path) -> None:
    loop = run(tmp_path, policy=FIRST, optim=OptimTable(use="sgd", lr=1e-12, weight_decay=0.0))
    assert loop.audit.report()["phases"][0]["silent"]


def test_a_clean_plan_follows_through_phases(tmp_path: Path) -> None:
    loop = run(tmp_path, policy=TWO)
    follow(loop.job.model, loop.job.phases[0].plan)
    assert not any(p.requires_grad for p in parameters(loop, "backbone"))


CLEAN = (
    *("test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_mambaout", "test_byobnet"),
    *("test_convnext2", "test_efficientnet_ln", "test_nfnet", "test_vit2"),
)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [FIRST, HEAD, none(NoOptions())], ids=["stages", "head", "none"])
@pytest.mark.parametrize("arch", CLEAN)
def test_no_false_alarm_on_clean_runs(arch: str, policy: FreezePolicy, tmp_path: Path) -> None:
    if policy is FIRST:
        loop = make_loop(tmp_path / "probe", arch=arch)
        first = loop.job.model.backbone
        name = next(iter(dict(first.named_parameters()))).split(".")[0]
        policy = stages(StagesOptions(frozen=[name]))
    report = run(tmp_path, arch=arch, policy=policy, dropout=0.1).audit.report()
    assert report["held"]
    assert report["phases"][0]["trained"] > 0
