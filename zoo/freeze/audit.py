"""The audit of a run: at each phase's first step, at every checkpoint and over the whole run it proves the Plan.

What is trained has a gradient, is in the optimiser exactly once at its rate, and moves; what is frozen has none and
keeps its bits. A violation stops the run and names the tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.errors import RunError
from zoo.freeze.digests import Digests, digests, moved, named_tensors
from zoo.freeze.names import head_name, in_heads, some, under
from zoo.freeze.plan import Phase, Plan
from zoo.registry.contracts import Layout
from zoo.shards import whole

CERTAIN = 1e3
"""A parameter that was to move by this many times the spacing of its values, and has not, was not stepped."""
TRIES = 10
"""Steps in a row that may move nothing at all: fp16 leaves out those whose gradients overflow."""

FIRST = "the phase's first step"
MOVED = 'leave it out of the optimiser (freeze.use = "stages" or "head"), or choose another [optim] use'
WOKEN = "something changed the model after the plan was applied: a callback, a head, or the library's own train()"


@dataclass(frozen=True)
class PhaseReport:
    """What a phase's first step showed. `silent` are trained parameters whose gradient was too small to move them."""

    first: int
    step: int
    trained: int
    frozen: int
    moved: int
    silent: list[str]


@dataclass
class Record:
    """What the audit keeps, and what a checkpoint keeps of it: plain values, by the names of the run's model."""

    start: Digests = field(default_factory=dict)
    """Of what no phase trains, at the first step of the run."""
    statistics: Digests = field(default_factory=dict)
    """Of the statistics that move though their layer's parameters do not, at the first step of the run."""
    first: int = -1
    """The first epoch of the current phase."""
    phase: Digests = field(default_factory=dict)
    """Of all that the current phase freezes, at its beginning."""
    phases: list[dict[str, Any]] = field(default_factory=list)
    heads: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Of heads that no phase trains: their logits' digest and their metrics, at the start and at the end."""


class Audit:
    """The audit of one run on `model`, of `layout`, which its optimiser steps; `average` is its moving average, if any.

    `gather` returns every process's value, in the order of their ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        phases: Sequence[Phase],
        optimizer: Optimizer,
        average: nn.Module | None = None,
        gather: Callable[[Any], Sequence[Any]] = lambda value: [value],
    ) -> None:
        self.record = Record()
        self._model = model
        self._layout = layout
        self._phases = phases
        self._trained = frozenset(name for phase in phases for name in phase.plan.trained())
        self._optimizer = optimizer
        self._average = average
        self._gather = gather
        self._phase: Phase | None = None
        self._first: _FirstStep | None = None

    @property
    def due(self) -> bool:
        """Whether the next step is to be looked at."""
        return self._first is not None

    def leave(self) -> None:
        """End the current phase, while the model still follows its plan. RunError: something frozen moved in it."""
        self.check_still("the end of the phase")

    def enter(self, phase: Phase, resumed: bool = False) -> None:
        """Begin a phase, whose plan the model follows by now; or go on from a checkpoint.

        RunError: what the checkpoint is of froze something that is not as it was.
        """
        if resumed:
            self._check_bits("the resume")
        if self.record.first != phase.first:
            self.record.first = phase.first
            self.record.phase = digests(self._model, phase.plan.frozen(self._model))
        if self._phase is None and not resumed:
            self.record.start = {name: self.record.phase[name] for name in self._never_trained()}
            self.record.statistics = digests(self._model, self._drifting())
        self._phase = phase
        self._first = _FirstStep(self._model, phase.plan, self._optimizer)

    def before_step(self, clip_norm: float | None = None, scale: float = 1.0) -> None:
        """Look at the gradients of the phase's first step, which are `scale` times what they will be applied as.

        RunError: something trained has none, is not in the optimiser once and at its rate, or something frozen has one.
        """
        if self._first is not None:
            self._first.look(clip_norm, scale)

    def after_step(self, step: int) -> None:
        """Look at what the phase's first step moved; a step that moved nothing (an fp16 overflow) puts it off by one.

        RunError: something trained stayed, something frozen moved, or the processes do not agree.
        """
        phase, first = self._phase, self._first
        if first is None or phase is None:
            return
        report = first.judge(phase.first, step)
        if report is None:
            return
        self._first = None
        self.check_still(f"step {step}")
        self._check_agreement(step)
        if all(known["first"] != report.first for known in self.record.phases):  # a resume looks once more
            self.record.phases.append(asdict(report))

    def check_still(self, when: str) -> None:
        """Compare what is frozen with its bits at the phase's beginning. RunError names what moved by `when`."""
        if self._phase is None:
            return
        self._check_bits(when)
        _refuse(_in_training(self._model, self._phase.plan), when, "to stay in eval mode, but in training mode", WOKEN)
        if self._average is not None:
            # What an earlier phase trained is frozen now, and its average is still on the way there.
            before = self.record.phase if self._phase is self._phases[0] else self.record.start
            _refuse(moved(before, digests(self._average, before)), when, "frozen, but its moving average moved")

    def _check_bits(self, when: str) -> None:
        _refuse(moved(self.record.phase, digests(self._model, self.record.phase)), when, "frozen, but moved")

    def note_heads(self, logits: Digests, metrics: Mapping[str, Mapping[str, float]], when: str) -> None:
        """Note what the heads that never train say about the validation images.

        RunError: all that such a head sees is frozen throughout, and it says something else than at the start.
        """
        for name, found in logits.items():
            now = {"logits": found, **metrics[name]}
            self.record.heads.setdefault(name, {"start": now})["end"] = now
        changed = [n for n, of in self.record.heads.items() if of["start"]["logits"] != of["end"]["logits"]]
        if not self.record.statistics and self._backbone_frozen():
            hint = "the backbone depends on something that is neither a parameter nor a buffer"
            _refuse([f"heads.{name}" for name in changed], when, "frozen, but with other logits", hint)

    def resting(self) -> tuple[str, ...]:
        """Return the names of the heads in which nothing trains in any phase."""
        idle = [head for head in self._layout.heads if not any(under(name, head) for name in self._trained)]
        return tuple(map(head_name, idle))

    def _backbone_frozen(self) -> bool:
        return all(in_heads(self._layout, name) for name in self._trained)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return asdict(self.record)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.record = Record(**state)

    def report(self) -> dict[str, Any]:
        """Return the audit as RUN/audit.json holds it: the phases, and the digests at the start and now."""
        now = digests(self._model, self.record.start)
        drifted = moved(self.record.statistics, digests(self._model, self.record.statistics))
        return {
            "phases": self.record.phases,
            "frozen": {name: {"start": old, "end": now[name]} for name, old in self.record.start.items()},
            "drifted": drifted,
            "heads": {name: _compared(found) for name, found in self.record.heads.items()},
            "held": now == self.record.start,
        }

    def _never_trained(self) -> list[str]:
        first, *others = (phase.plan.frozen(self._model) for phase in self._phases)
        return [name for name in first if all(name in set(other) for other in others)]

    def _drifting(self) -> list[str]:
        norms = self._phases[-1].plan.drifting()
        return [name for name, _ in self._model.named_buffers() if name.rpartition(".")[0] in norms]

    def _check_agreement(self, step: int) -> None:
        """Only digests travel. One process has nothing to agree with."""
        if len(self._gather(None)) == 1:
            return
        ours = digests(self._model, named_tensors(self._model))
        everyone = self._gather(ours)
        apart = [name for name in ours if any(theirs.get(name) != ours[name] for theirs in everyone)]
        _refuse(apart, f"step {step}", "not the same in all processes", "wrap the model anew when a phase begins")


class _FirstStep:
    """Looks at a step from both sides: at the gradients before it, at the values after it."""

    def __init__(self, model: nn.Module, plan: Plan, optimizer: Optimizer) -> None:
        self._model = model
        self._plan = plan
        self._optimizer = optimizer
        self._trained = {name: p for name, p in model.named_parameters() if plan.rates[name]}
        self._before: Digests = {}
        self._expected: set[str] = set()
        self._tries = 0

    def look(self, clip_norm: float | None, scale: float) -> None:
        self._check_modes()
        self._check_optimizer()
        none = [name for name, p in self._trained.items() if p.grad is None]
        hint = 'the loss does not depend on it: freeze it (freeze.use = "patterns"), or mend what detaches it'
        _refuse(none, FIRST, "to be trained, but without a gradient", hint)
        self._before = digests(self._model, self._trained)
        shrink = self._clipped(clip_norm, scale) / scale
        lrs = {id(p): group["lr"] for group in self._optimizer.param_groups for p in group["params"]}
        self._expected = {name for name, p in self._trained.items() if _must_move(p, lrs[id(p)], shrink)}

    def judge(self, first: int, step: int) -> PhaseReport | None:
        now = digests(self._model, self._trained)
        stayed = [name for name, digest in self._before.items() if now[name] == digest]
        self._tries += 1
        if len(stayed) == len(self._trained) and self._tries < TRIES:
            return None
        hint = "its gradient was large enough to: the optimiser holds other tensors, or skips it"
        _refuse(
            [name for name in stayed if name in self._expected], f"step {step}", "to be trained, but not moved", hint
        )
        frozen = sum(not rate for rate in self._plan.rates.values())
        moving = len(self._trained) - len(stayed)
        return PhaseReport(first, step, len(self._trained), frozen, moving, stayed)

    def _check_modes(self) -> None:
        rates = self._plan.rates
        named = dict(self._model.named_parameters())
        thawed = [n for n, p in named.items() if rates[n] is None and (p.requires_grad or p.grad is not None)]
        _refuse(thawed, FIRST, "frozen, but with a gradient", WOKEN)
        lost = [name for name, p in self._trained.items() if not p.requires_grad]
        _refuse(lost, FIRST, "to be trained, but requires_grad is False", WOKEN)
        asleep = [name for name in self._plan.tracked_norms if not self._model.get_submodule(name).training]
        _refuse(sorted(asleep), FIRST, "to track its statistics, but in eval mode", WOKEN)

    def _check_optimizer(self) -> None:
        """The tensors themselves count, not their names: a model may have been copied or cast since."""
        held: dict[int, list[float]] = {}
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                held.setdefault(id(parameter), []).append(group["rate"])
        rates = {name: held.get(id(p), []) for name, p in self._trained.items()}
        hint = "it holds what the plan says when the run starts: something changed it, or the model, since"
        _refuse([n for n, found in rates.items() if not found], FIRST, "to be trained, but not in the optimiser", hint)
        _refuse([n for n, found in rates.items() if len(found) > 1], FIRST, "in the optimiser more than once", hint)
        wrong = [name for name, found in rates.items() if found[0] != self._plan.rates[name]]
        _refuse(wrong, FIRST, "not at its rate in the optimiser", hint)

    def _clipped(self, clip_norm: float | None, scale: float) -> float:
        """What clipping to a norm multiplies the gradients by."""
        if clip_norm is None:
            return 1.0
        gradients = [p.grad for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = float(whole(nn.utils.get_total_norm(gradients))) / scale
        return min(1.0, clip_norm / norm) if norm > 0 and isfinite(norm) else 1.0


def _compared(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"identical": found["start"]["logits"] == found["end"]["logits"], **found}


def _must_move(parameter: Tensor, lr: float, shrink: float) -> bool:
    """Whether even a plain gradient step, far smaller than this one may be, would show in the parameter's bits."""
    if parameter.grad is None:
        return False
    gradient = whole(parameter.grad)
    if not bool(gradient.isfinite().all()):
        return False
    number = torch.finfo(parameter.dtype)
    spacing = number.eps * whole(parameter).abs().clamp(min=number.tiny)
    return bool((lr * (shrink * gradient.abs()).clamp(max=1) > CERTAIN * spacing).any())


def _in_training(model: nn.Module, plan: Plan) -> list[str]:
    tracked = {id(model.get_submodule(name)) for name in plan.tracked_norms}
    held = {name: model.get_submodule(name) for name in sorted(plan.still | plan.fixed_norms)}
    found = [
        f"{prefix}.{name}".rstrip(".")
        for prefix, module in held.items()
        for name, below in module.named_modules()
        if below.training and id(below) not in tracked
    ]
    return list(dict.fromkeys(found))


def _refuse(names: Sequence[str], when: str, what: str, hint: str = MOVED) -> None:
    if names:
        raise RunError(f"{when}: {what}: {some(names)}", where="[freeze]", hint=hint)
