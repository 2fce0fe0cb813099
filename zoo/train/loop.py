"""The training loop. Precision, device and distribution live behind the strategy; no step waits for the device."""

from copy import deepcopy
from dataclasses import asdict, replace
from math import isnan
from pathlib import Path
from signal import SIGINT
from time import monotonic, perf_counter
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from zoo.data import Part
from zoo.errors import Interrupted
from zoo.freeze.audit import Audit
from zoo.freeze.frontier import find_frontier
from zoo.freeze.plan import Phase, phase_at
from zoo.freeze.still import follow
from zoo.registry.events import (
    CheckpointSaved,
    EpochStarted,
    Evaluated,
    MistakesFound,
    RunEnded,
    RunStarted,
    StepEnded,
)
from zoo.seeds import derive
from zoo.shards import load_whole, whole_state
from zoo.train.checkpoint import Checkpoint, is_due
from zoo.train.evaluate import evaluate
from zoo.train.job import Job, Progress
from zoo.train.late import LateLoss, check_finite
from zoo.train.mistakes import Mistakes
from zoo.train.model import Model
from zoo.train.optim import enter, group_names, set_rate
from zoo.train.optim_state import load_optimizer, optimizer_numbers, optimizer_tensors
from zoo.train.route import Route, find_route
from zoo.train.schedule import factor
from zoo.train.stop import StopRequest
from zoo.train.watch import Watch
from zoo.train.writing import followed_by

PATIENCE = 2.0
"""Seconds after a signal in which processes that were launched together take no second one for one."""


class Loop:
    """Fits one job. A loop that was given a checkpoint goes on from it, to the same bits."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.progress = Progress()
        self.total = job.run.epochs * job.train.steps_per_epoch
        self._route = Route(job.model, job.normalise, lambda images: images)
        self._wrapped: nn.Module = job.model  # until a phase wraps what it trains
        average = job.average.module if job.average else None
        self.audit = Audit(job.model, job.layout, job.phases, job.optimizer, average, job.strategy.gather)
        self._resting = self.audit.resting()
        self._phase: Phase | None = None
        self._resumed = False
        self._losses = LateLoss()
        self._groups = group_names(job.optimizer)
        self._sum = torch.zeros((), dtype=torch.float32, device=job.strategy.device)
        self._stop = StopRequest(PATIENCE if job.strategy.processes > 1 else 0.0)
        self._saved = monotonic()
        self._begun: CheckpointSaved | None = None  # until the checkpoint stands

    @property
    def evaluated(self) -> Model:
        """The model whose weights are validated, called best, and exported: the moving average when there is one."""
        model: Model = self.job.average.module if self.job.average else self.job.model
        return model

    def fit(self) -> RunEnded:
        """Train to the last epoch, or until a callback gives a reason to stop; return how it ended.

        RunError: the loss is not finite, or a checkpoint cannot be written. Interrupted: a signal, after a checkpoint.
        """
        started = perf_counter()
        reason = "finished"
        try:
            self.job.events.run_started(event=self._start_event())
            with self._stop.listen(), followed_by(self._settle):
                reason = self._epochs() or reason
        except BaseException as error:
            reason = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else f"failed: {error}"
            raise
        finally:
            ended = RunEnded(reason, perf_counter() - started, self.progress.best())
            self.job.events.run_ended(event=ended)
        return ended

    def _epochs(self) -> str | None:
        """Asked before an epoch, not after: a run that had stopped stops at once when it is resumed."""
        while self.progress.epoch < self.job.run.epochs:
            reason = self._reason_to_stop()
            if reason:
                return f"stopped: {reason}"
            self._epoch(self.progress.epoch)
        return None

    def _reason_to_stop(self) -> str | None:
        """Ask the callbacks, which rank 0 has."""
        history = tuple(map(_sealed, self.progress.history))
        reason: str | None = self.job.events.should_stop(history=history) if history else None
        asked: str | None = self.job.strategy.gather(reason or None)[0]
        return asked

    def _enter(self, phase: Phase) -> None:
        """Begin a phase: the model follows its plan and is wrapped anew, for what a wrapper knows of gradients."""
        job = self.job
        if phase is self._phase:
            return
        self.audit.leave()
        follow(job.model, phase.plan)
        enter(job.optimizer, job.phases.index(phase))
        self._route = self._find_route(phase)
        self._wrapped = job.strategy.wrap(self._route.module)
        self.audit.enter(phase, self._resumed)
        if self._phase is None and not self._resumed and self._resting:
            self._validate()
        self._phase, self._resumed = phase, False

    def _find_route(self, phase: Phase) -> Route:
        """What an earlier phase kept of a frozen backbone is still true in one that leaves it frozen."""
        job, frontier = self.job, find_frontier(self.job.layout, phase.plan)
        if frontier.whole and self._route.train is not None:
            return self._route
        splits = (job.train, job.val)
        route, said = find_route(job.model, frontier, job.normalise, job.strategy, splits, fixed_input=job.keep)
        if said:
            job.tell("features", said)
        return route

    def _epoch(self, epoch: int) -> None:
        self.job.model.train()
        self._enter(phase_at(self.job.phases, epoch))
        self.job.events.epoch_started(event=EpochStarted(epoch, self.progress.step))
        for part in self.job.train.epoch(epoch, self.progress.step_in_epoch, self._route.train):
            self._step(part)
            self._after_step()
        self._losses.drain()
        path = self._evaluate(epoch)
        stop, _ = self._agreed()
        if stop and self.progress.epoch < self.job.run.epochs:
            raise self._interrupted(path)

    def _step(self, part: Part) -> None:
        job, progress = self.job, self.progress
        # Other processes have other images, and draw other masks for them.
        torch.manual_seed(derive(job.run.seed, "step", progress.step) + job.strategy.rank)
        lr = job.optim.lr * factor(job.schedule, progress.step, self.total)
        set_rate(job.optimizer, lr)
        images = int(job.strategy.total([part.own])[0])
        if images:  # none where all of a batch are bad
            self._update(part, images)
        progress.step += 1
        progress.step_in_epoch += 1
        progress.images += images
        if job.events.step_ended.get_hookimpls():
            rates = {name: group["lr"] for name, group in zip(self._groups, job.optimizer.param_groups, strict=True)}
            event = StepEnded(progress.step, progress.epoch, images, lr, self._losses.newest, rates)
            job.events.step_ended(event=event)

    def _update(self, part: Part, images: int) -> None:
        """Take the optimiser's step for a batch, of which `images` count in all processes."""
        job, step = self.job, self.progress.step + 1
        loss = self._gradients(part, images)
        if self.audit.due:
            self.audit.before_step(job.run.clip_norm, job.strategy.state().get("scale", 1.0))
        job.strategy.step(job.optimizer, job.run.clip_norm)
        self.audit.after_step(step)
        if job.average:
            job.average.update(job.model)
        self._sum += loss * images
        self._losses.put(step, loss)

    def _gradients(self, part: Part, whole: int) -> Tensor:
        """Add the gradients of the mean loss of a batch of `whole` images, of which this process has a part.

        Each micro-batch counts by its images, so that the gradient is the same however the batch is cut. Return the
        loss () of the whole batch.
        """
        job, strategy = self.job, self.job.strategy
        images = self._route.prepare(strategy.send(part.images))
        seed = derive(job.run.seed, "mix", self.progress.step)
        images, targets = job.mix(images, strategy.send(part.targets), seed)
        images, targets = images[part.lead :], targets[part.lead :]
        pieces = count_pieces(part.whole, job.run.batch_size, job.run.accumulate, strategy.processes)
        losses: list[Tensor] = []
        own = part.own
        for piece in zip(images.tensor_split(pieces), targets.tensor_split(pieces), strict=True):
            with strategy.micro(last=len(losses) == pieces - 1):
                losses.append(self._backward(*piece, max(0, own), whole))
            own -= len(piece[0])
        return strategy.reduce(losses[0] if pieces == 1 else torch.stack(losses).sum())

    def _backward(self, images: Tensor, targets: Tensor, own: int, whole: int) -> Tensor:
        """The first `own` images count; any others are there because every process computes something."""
        with self.job.strategy.autocast():
            logits = self._wrapped(self._route.extract(images))
            loss = self.job.model.loss(logits, targets)[:own].sum() / whole
        self.job.strategy.backward(loss)
        return loss.detach()

    def _after_step(self) -> None:
        if not self.job.checkpoints.is_writing:
            self._settle()
        stop, due = self._agreed()
        if stop:
            self._losses.drain()
            raise self._interrupted(self._save())
        if due:
            self._losses.drain()
            self._save()

    def _agreed(self) -> tuple[bool, bool]:
        """Whether any process is asked to stop, and whether any finds a checkpoint due: their clocks differ."""
        due = is_due(self.job.checkpoint.every, self.progress.step, monotonic() - self._saved)
        stops, dues = self.job.strategy.total([self._stop.asked, due])
        return stops > 0, dues > 0

    def _interrupted(self, path: Path) -> Interrupted:
        self._settle()
        what = f"stopped after step {self.progress.step}, saved in {path}"
        return Interrupted(what, hint=self.job.resume_command, number=self._stop.signal or SIGINT)

    def _evaluate(self, epoch: int) -> Path:
        job, progress = self.job, self.progress
        train = {"train/loss": float(self._sum) / max(1, progress.images)}
        mistakes = Mistakes() if self._mistakes_wanted() else None
        val = self._validate(mistakes)
        metrics = {**train, **val, "lr": job.optim.lr * factor(job.schedule, progress.step - 1, self.total)}
        evaluated = Evaluated(epoch, progress.step, metrics, self._is_best(metrics))
        progress.history.append(evaluated)
        progress.epoch, progress.step_in_epoch, progress.images = epoch + 1, 0, 0
        self._sum.zero_()
        path = self._save(evaluated.best)
        if job.events.checkpoint_saved.get_hookimpls():  # they hear of it before of the epoch's end, and may stop there
            self._settle()
        job.events.evaluated(event=_sealed(evaluated))
        if mistakes and job.strategy.is_main:
            job.events.mistakes_found(event=MistakesFound(epoch, progress.step, mistakes.of(job.val.split)))
        return path

    def _mistakes_wanted(self) -> bool:
        """Ask whether a callback hears of them; rank 0 has the callbacks."""
        wanted: bool = self.job.strategy.gather(bool(self.job.events.mistakes_found.get_hookimpls()))[0]
        return wanted

    def _validate(self, mistakes: Mistakes | None = None) -> dict[str, float]:
        """Measure, and note what heads that never train say: it must be what they said before the first step."""
        job, model, kept = self.job, self.evaluated, self._route.val
        forward = model.heads if kept is not None else lambda images: model(job.normalise(images))
        batches = job.val.of(kept) if kept is not None else job.val
        watch = Watch(self._resting)
        found = evaluate(model, batches, forward, job.strategy, self._expected, watch, mistakes)
        prefixes = {name: f"val/{name}/" if len(model.heads) > 1 else "val/" for name in self._resting}
        metrics = {
            name: {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
            for name, prefix in prefixes.items()
        }
        self.audit.note_heads(watch.digests(), metrics, f"step {self.progress.step}")
        return found

    def _expected(self) -> int:
        """How many images a validation counts: an image may be bad in several processes."""
        bad = self.job.strategy.gather([image.index for image in self.job.val.bad])
        return self.job.val_images - len(set().union(*bad))

    def _is_best(self, metrics: dict[str, float]) -> bool:
        best = self.progress.best()
        if best is None:
            return True
        name = self.job.run.best_by
        new, old = metrics[name], best.metrics[name]
        if isnan(old):
            return not isnan(new)
        return new > old if self.job.directions[name] == "max" else new < old

    def _save(self, best: bool = False) -> Path:
        job = self.job
        check_finite(job.model, self.progress.step)
        self.audit.check_still(f"step {self.progress.step}")
        keep = job.strategy.is_main
        tensors = {
            "model": whole_state(job.model.state_dict(), keep),
            "optimizer": optimizer_tensors(job.optimizer, keep),
        }
        if job.average:
            tensors["ema"] = whole_state(job.average.module.state_dict(), keep)
        self._settle()
        path = job.checkpoints.begin(self.progress.step, tensors, self._state(), best)
        self._begun = CheckpointSaved(path, self.progress.step)
        self._saved = monotonic()
        return path

    def _settle(self) -> None:
        """Wait until the checkpoint that was begun stands, and say so: what hears of it finds it there."""
        begun, self._begun = self._begun, None
        self.job.checkpoints.wait()
        if begun:
            self.job.events.checkpoint_saved(event=begun)

    def _state(self) -> dict[str, Any]:
        progress = {**asdict(self.progress), "loss_sum": float(self._sum)}
        numbers = optimizer_numbers(self.job.optimizer)
        strategy = dict(self.job.strategy.state())
        audit = {**self.audit.state(), "computed": self._computed()}
        return {
            "progress": progress,
            "optimizer": numbers,
            "strategy": strategy,
            "audit": audit,
            "facts": self.job.facts,
        }

    def _computed(self) -> str:
        """By what logits are computed: with all of it the same they are the same to the last bit."""
        strategy = self.job.strategy
        return f"{type(strategy).__name__} {strategy.processes} {torch.get_num_threads()} {strategy.settings}"

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint: weights, moving average, optimiser, loss scale and place in the run."""
        kept = dict(checkpoint.state["progress"])
        kept["history"] = [Evaluated(**evaluated) for evaluated in kept["history"]]
        self._sum.fill_(kept.pop("loss_sum"))
        self.progress = Progress(**kept)
        load_whole(self.job.model, checkpoint.tensors["model"])
        if self.job.average:
            load_whole(self.job.average.module, checkpoint.tensors["ema"])
        load_optimizer(self.job.optimizer, checkpoint.tensors["optimizer"], checkpoint.state["optimizer"])
        self.job.strategy.load_state(checkpoint.state["strategy"])
        audit = dict(checkpoint.state["audit"])
        if audit.pop("computed") != self._computed():
            audit["heads"] = {}  # the same weights, other kernels: what heads say is compared from now on
        self.audit.load_state(audit)
        self._resumed = True
        best = self.progress.best()
        if best:  # a crash may have come between a checkpoint and the note that it is the best one
            self.job.checkpoints.mark_best(best.step)
        self.job.checkpoints.prune(checkpoint.path)

    def _start_event(self) -> RunStarted:
        job = self.job
        return RunStarted(
            name=job.run.name,
            folder=job.checkpoints.folder.parent,
            epochs=job.run.epochs,
            steps_per_epoch=job.train.steps_per_epoch,
            images_per_epoch=job.train.images_per_epoch,
            step=self.progress.step,
            best_by=job.run.best_by,
            directions=job.directions,
            history=tuple(map(_sealed, self.progress.history)),
            recipe=deepcopy(dict(job.about.recipe)),
            classes=job.about.classes,
            input=job.about.input,
            network=job.about.network,
        )


def _sealed(evaluated: Evaluated) -> Evaluated:
    """Return it for callbacks: what one of them changes would choose the best checkpoint."""
    return replace(evaluated, metrics=MappingProxyType(evaluated.metrics))


def count_pieces(images: int, batch_size: int, accumulate: int, processes: int = 1) -> int:
    """Return into how many micro-batches to cut a batch of `images`: fewer than `accumulate` for a ragged one.

    Each has at least two images in every process, because batch norm needs them, unless the recipe's own micro-batches
    have one.
    """
    micro = -(-batch_size // accumulate)
    least = 1 if micro <= processes else 2
    return min(-(-images // micro), max(1, images // processes // least))
