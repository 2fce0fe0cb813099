"""Checks of freeze policies. They are tried on the kit's own network: stages conv1, bn1, layer1, layer2, layer3."""

import copy
from dataclasses import replace
from math import isfinite
from time import perf_counter
from typing import Any

import torch
from torch import nn

from zoo.freeze.layout import make_layout
from zoo.freeze.plan import Rules, make_phases
from zoo.freeze.still import follow
from zoo.heads.linear import LinearHead
from zoo.registry.contracts import Adapter, Layout
from zoo.registry.parts import FreezePart
from zoo.testing.kit import NotTriedError, Trial, check, expect
from zoo.testing.network import SIZE, STAGES, alike, apart, changed, draw, make, perturbed, small_backbone, snapshot
from zoo.train.model import Model

EPOCHS = 12
PATIENCE = 2.0
"""Seconds that a policy may take for a hundred epochs of a small network."""


def network(heads: tuple[str, ...] = ("main",)) -> tuple[Model, Layout]:
    """Return the kit's own network with heads, perturbed, and its layout in a run of `EPOCHS`."""
    backbone = small_backbone()
    built = make(lambda: {name: LinearHead(backbone.spec, 3) for name in heads})
    model = Model(backbone, built, dict.fromkeys(heads, 1.0))
    perturbed(model)
    return model, layout_of(model)


def layout_of(model: Model) -> Layout:
    """Return the layout of the kit's own network in a run of `EPOCHS`."""
    stages, heads = [f"backbone.{stage}" for stage in STAGES], [f"heads.{name}" for name in model.heads]
    return make_layout(model, stages, heads, root="backbone.", epochs=EPOCHS)


def _layouts(trial: Trial) -> list[Layout]:
    """With one head and with two, as a run has them."""
    return [_prepared(trial, heads)[1] for heads in (("main",), ("main", "second"))]


def _prepared(trial: Trial, heads: tuple[str, ...] = ("main",)) -> tuple[Model, Layout]:
    """Return the network with what the policy adds to it."""
    model, layout = network(heads)
    _attach(trial, model, layout)
    return model, layout_of(model)


def _rates(trial: Trial, layout: Layout, epoch: int) -> dict[str, Any]:
    return dict(trial.build()(layout, epoch))


@check("a parameter that no rule covers would train, or not, by accident")
def cover(trial: Trial) -> None:
    """A rate for exactly the parameters of the layout: None, or a finite number from 0."""
    for layout in _layouts(trial):
        _rates(trial, replace(layout, epochs=0), 0)  # no run around it: `zoo.freeze.apply`
        for epoch in range(EPOCHS):
            rates = _rates(trial, layout, epoch)
            odd = sorted(set(rates) ^ set(layout.parameters))
            expect(not odd, "a rate for every parameter and for nothing else", odd[:5])
            wrong = {name: rate for name, rate in rates.items() if not _is_rate(rate)}
            expect(not wrong, "rates that are None or a finite number from 0", dict(list(wrong.items())[:3]))


def _is_rate(rate: Any) -> bool:
    return rate is None or (type(rate) in (int, float) and isfinite(rate) and rate >= 0)


@check("a run in which nothing trains ends with what it began")
def something_trains(trial: Trial) -> None:
    """In every epoch something trains."""
    for layout in _layouts(trial):
        for epoch in range(EPOCHS):
            rates = _rates(trial, layout, epoch)
            expect(any(rates.values()), f"something that trains in epoch {epoch}", "nothing does")


@check("a resume asks for the epochs that are left, and must land in the right phase")
def pure(trial: Trial) -> None:
    """The same rates for the same epoch, in whatever order and by whichever policy object they are asked for."""
    layout = _layouts(trial)[0]
    policy, expected = trial.build(), {}
    for epoch in range(EPOCHS):
        expected[epoch] = dict(policy(layout, epoch))
    expect(layout == _layouts(trial)[0], "a layout that is left as it was", "it was changed")
    for epoch in reversed(range(EPOCHS)):
        expect(dict(policy(layout, epoch)) == expected[epoch], f"the same rates for epoch {epoch} again", "others")
        fresh = _rates(trial, layout, epoch)
        expect(fresh == expected[epoch], f"the same rates for epoch {epoch} from a fresh policy", "others")


@check("a policy is asked for every epoch before the first step")
def quick(trial: Trial) -> None:
    """Rates for a hundred epochs of a small network within two seconds."""
    layout, policy = _layouts(trial)[0], trial.build()
    started = perf_counter()
    for epoch in range(100):
        policy(layout, epoch % EPOCHS)
    seconds = perf_counter() - started
    expect(seconds < PATIENCE, f"less than {PATIENCE} s", f"{seconds:.1f} s")


@check("frozen means that not a bit moves")
def holds(trial: Trial) -> None:
    """After a step in each phase what is frozen has the bits that it had."""
    model, layout = _prepared(trial)
    for phase in make_phases(model, layout, trial.build(), Rules()):
        follow(model, phase.plan)
        model.train()
        before = snapshot(model)
        rates = phase.plan.rates
        groups = [{"params": [p], "lr": rates[name] or 0.0} for name, p in model.named_parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(groups)
        logits = model(draw(6, 3, *SIZE))
        loss = model.loss(logits, torch.arange(6) % 3).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        moved = set(changed(before, model.state_dict()))
        drifted = sorted(moved & set(phase.plan.frozen(model)))
        expect(not drifted, f"nothing frozen that moves in epoch {phase.first}", drifted[:3])
        optimizer.zero_grad(set_to_none=True)


def _attach(trial: Trial, model: nn.Module, layout: Layout) -> Adapter | None:
    adapter = trial.part.build_adapter(trial.options) if isinstance(trial.part, FreezePart) else None
    if adapter is not None:
        make(lambda: adapter.attach(model, layout))
    return adapter


@check("an exported model has the library's names, and says what the trained one says")
def adapter(trial: Trial) -> None:
    """What is attached changes no logit; merged, the names are the old ones and the logits those of the last step."""
    model, layout = network()
    given, before = draw(2, 3, *SIZE), {name: tensor.shape for name, tensor in network()[0].state_dict().items()}
    logits = model.eval()(given)["main"].detach()
    attached = _attach(trial, model, layout)
    if attached is None:
        raise NotTriedError("the policy adds no parameters")
    expect(alike(model(given)["main"], logits), "the same logits after attaching", apart(model(given)["main"], logits))
    copied = copy.deepcopy(model)
    expect(alike(copied(given)["main"], logits), "the same logits from a deep copy", "others")
    perturbed(model)
    trained = model(given)["main"].detach()
    attached.merge(model)
    after = {name: tensor.shape for name, tensor in model.state_dict().items()}
    expect(after == before, "the names and shapes from before attaching", sorted(set(after) ^ set(before))[:5])
    merged = model(given)["main"]
    expect(alike(merged, trained), "the trained logits after merging", apart(merged, trained))


CHECKS = (cover, something_trains, pure, quick, holds, adapter)
