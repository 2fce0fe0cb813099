"""Checks of callbacks, in real runs of a small network on two dozen images."""

import contextlib
import io
import json
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from zoo.callbacks import make_events
from zoo.files import sha256
from zoo.recipe.read import Document
from zoo.recipe.resolve import resolve
from zoo.registry import hookimpl
from zoo.registry.discovery import Candidate, Owner
from zoo.registry.events import Evaluated
from zoo.registry.parts import CallbackPart, Part
from zoo.registry.registry import Registry, load_registry
from zoo.run.folder import PARTS
from zoo.testing.kit import NotTriedError, Trial, check, expect
from zoo.testing.state import differences, world

EPOCHS = 2
CALLBACK = "callback under test"


@dataclass(frozen=True)
class Ran:
    """What a run left: how it ended, its metrics an epoch, and the SHA-256 of each checkpoint's tensors."""

    reason: str
    metrics: list[dict[str, Any]]
    tensors: Mapping[str, str]


class _Offer:
    """A plugin of one part."""

    def __init__(self, part: CallbackPart) -> None:
        self.part = part

    @hookimpl
    def zoo_callbacks(self) -> list[CallbackPart]:
        return [self.part]


def _registry(part: Part | None) -> tuple[Registry, str]:
    """Zoo's own parts and the one under test, by a name that no other has."""
    if not isinstance(part, CallbackPart):
        return load_registry(candidates=()), ""
    own = load_registry(candidates=())
    if any(item.part == part for item in own.parts(part.kind)):
        return own, part.name
    mine = replace(part, name="under-test")
    return load_registry(
        candidates=[Candidate(Owner("zoo.testing", "0", "under-test"), lambda: _Offer(mine))]
    ), mine.name


def photos(folder: Path) -> Path:
    """Write two classes of small pictures, light above and light below, and return the folder."""
    for split, count in (("train", 6), ("val", 3)):
        for name in ("above", "below"):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                image = Image.new("RGB", (32, 32), (20 + 7 * index, 40, 60 if split == "train" else 61))
                image.paste((200, 210, 220), (0, 0, 32, 16) if name == "above" else (0, 16, 32, 32))
                image.save(folder / split / name / f"{index}.png")
    return folder


def fit(folder: Path, part: Part | None, options: Mapping[str, Any], epochs: int = EPOCHS, resume: bool = False) -> Ran:
    """Run the kit's recipe in `folder`, with the callback or without, and return what it left."""
    from zoo.run import finetune

    registry, name = _registry(part)
    root = folder / "photos"
    if not root.exists():
        photos(root)
    table = {
        "format": 1,
        "run": {"name": "kit", "epochs": epochs, "batch_size": 4},
        "backbone": {"use": "timm", "arch": "test_resnet"},
        "data": {"use": "imagefolder", "root": str(root), "image_size": 32, "workers": 0},
        "schedule": {"use": "constant"},
        "device": {"device": "cpu", "precision": "fp32", "channels_last": False},
        "checkpoint": {"keep": 10},
        "export": [],
        "callback": [{"use": name, **options}] if name else [],
    }
    run = folder / "run"
    changes = ("run.epochs",) if resume else ()
    result = finetune(resolve(Document(table), registry), run, registry=registry, resume=resume, changes=changes)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    tensors = {str(path.relative_to(run)): sha256(path) for path in sorted(run.rglob("*.safetensors"))}
    return Ran(result.ended.reason, [json.loads(line) for line in lines], tensors)


@cache
def _without() -> Ran:
    with tempfile.TemporaryDirectory() as folder:
        return fit(Path(folder), None, {})


def _with(trial: Trial, name: str = "with", epochs: int = EPOCHS, resume: bool = False) -> Ran:
    folder = trial.folder / name
    folder.mkdir(exist_ok=True)
    return fit(folder, trial.part, trial.options.model_dump(mode="json", exclude_none=True), epochs, resume)


def build(trial: Trial) -> Any:
    """Return the callback for an empty run folder."""
    folder = trial.folder / "built"
    folder.mkdir(exist_ok=True)
    return trial.build(folder)


def _implemented(callback: Any) -> list[str]:
    hooks = vars(make_events({CALLBACK: callback}))
    return [name for name, caller in hooks.items() if not name.startswith("_") and caller.get_hookimpls()]


@check("a method that is no event of a run is never called")
def contract(trial: Trial) -> None:
    """An object with hookimpls of a run's events, one at least, with the arguments that those have."""
    found = _implemented(build(trial))
    expect(bool(found), "at least one method marked @zoo.hookimpl and named as an event", "none")


@check("what observes a run may not change it")
def run_unchanged(trial: Trial) -> None:
    """With it the run has the same weights and metrics, to the bit, until it asks to stop."""
    found, expected = _with(trial), _without()
    stopped = found.reason.startswith("stopped")
    expect(stopped or found.reason == expected.reason, f"a run that ends: {expected.reason}", found.reason)
    epochs = len(found.metrics)
    expect(found.metrics == expected.metrics[:epochs], f"metrics {expected.metrics[:epochs]}", found.metrics)
    common = set(found.tensors) & set(expected.tensors)
    whole = len(common) >= epochs if stopped else set(found.tensors) == set(expected.tensors)
    expect(whole, "the same checkpoints", sorted(found.tensors))
    other = sorted(name for name in common if found.tensors[name] != expected.tensors[name])
    expect(not other, "the same weights", f"other ones in {other}")


@check("a run leaves one folder, and a process that embeds zoo goes on as it was")
def leaves_nothing(trial: Trial) -> None:
    """Nothing written outside the run's folder, nothing printed, no thread and no setting left behind."""
    here, before_it = trial.folder / "here", trial.folder / "before"
    for folder in (here, before_it):
        folder.mkdir()
    with contextlib.chdir(before_it):
        _with(trial, "first")  # what is imported now is there already
    printed, before, threads = io.StringIO(), world(), set(threading.enumerate())
    with contextlib.chdir(here), contextlib.redirect_stdout(printed):
        _with(trial, "second")
    left = [thread.name for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    expect(not left, "no thread that goes on", left)
    expect(not differences(before, world()), "the process as it was", differences(before, world()))
    expect(not printed.getvalue(), "nothing on standard output", printed.getvalue()[:200])
    strewn = sorted(path.name for path in here.iterdir())
    beside = sorted(path.name for path in (trial.folder / "second").iterdir() if path.name not in ("photos", "run"))
    inside = {path.name for path in (trial.folder / "second" / "run").iterdir() if not path.name.startswith(".")}
    odd = sorted(inside - {*PARTS, trial.part.name})
    expect(not odd, f"in the run's folder files below {trial.part.name!r} alone: --overwrite knows that name", odd)
    expect(not strewn and not beside, "nothing written outside the run's folder", strewn + beside)


@check("a run that goes on has its history, and the callback a folder that it wrote in before")
def resumes(trial: Trial) -> None:
    """A run of one epoch that goes on for another ends as one of two epochs does."""
    first = _with(trial, "resumed", epochs=1)
    again = _with(trial, "resumed", resume=True)
    stopped = first.reason.startswith("stopped") or again.reason.startswith("stopped")
    expected = _without().metrics[: len(again.metrics)]
    expect(stopped or len(again.metrics) == EPOCHS, f"{EPOCHS} epochs", len(again.metrics))
    expect(again.metrics == expected, f"metrics {expected}", again.metrics)


@check("a resume asks again, and a run that stopped must stop at the same place")
def stop_is_pure(trial: Trial) -> None:
    """`should_stop` answers a history with a reason or None, and with the same one again."""
    callback = build(trial)
    if "should_stop" not in _implemented(callback):
        raise NotTriedError("it never asks to stop")
    answers = [_asked(trial), _asked(trial)]
    expect(answers[0] == answers[1], "the same answers to the same history", answers)
    odd = [answer for answer in answers[0] if answer is not None and not isinstance(answer, str)]
    expect(not odd, "a reason in words, or None", odd)


def _asked(trial: Trial) -> list[Any]:
    """Answers of a callback that heard a whole run, to histories of 1 to 12 epochs without any progress."""
    heard: list[Any] = []

    class Listening(CallbackPart):
        def builder(self) -> Any:
            build = trial.part.builder()

            def listen(options: Any, folder: Path) -> Any:
                heard.append(build(options, folder))
                return heard[-1]

            return listen

    part = trial.part
    with tempfile.TemporaryDirectory() as folder:
        options = trial.options.model_dump(mode="json", exclude_none=True)
        fit(Path(folder), Listening(part.name, part.build, part.options), options)
    metrics = dict(_without().metrics[0])
    numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
    history: Sequence[Evaluated] = [Evaluated(epoch, 3 * epoch + 3, numbers, epoch == 0) for epoch in range(12)]
    events = make_events({CALLBACK: heard[0]})
    return [events.should_stop(history=history[: length + 1]) for length in range(12)]


CHECKS = (contract, run_unchanged, leaves_nothing, resumes, stop_is_pure)
