"""A run's audit, told in a few lines; and asked again of the bytes that its best checkpoint holds."""

from collections.abc import Iterator, Mapping
from typing import Any

from zoo.errors import RunError
from zoo.freeze.digests import digest
from zoo.run.folder import RunFolder
from zoo.train.checkpoint import Checkpoints, read


def describe(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an audit found, a line a finding."""
    frozen, phases = len(report["frozen"]), report["phases"]
    held = "bit-identical" if report["held"] else "NOT what they were"
    yield f"{frozen:,} tensors frozen throughout, {held}" if frozen else "nothing is frozen throughout"
    for phase in phases:
        silent = f", {len(phase['silent'])} with too small a gradient" if phase["silent"] else ""
        counts = f"{phase['moved']:,} of {phase['trained']:,} trained tensors moved{silent}, {phase['frozen']:,} frozen"
        yield f"from epoch {phase['first'] + 1}: at step {phase['step']} {counts}"
    if report["drifted"]:
        yield f"{len(report['drifted']):,} statistics of frozen layers drifted, as freeze.bn lets them"
    for name, found in report["heads"].items():
        yield f"head {name}, frozen: {_head(found)}"


def _head(found: Mapping[str, Any]) -> str:
    start, end = found["start"], found["end"]
    if found["identical"]:
        return "its logits on the validation images are bit-identical"
    changes = [f"{key} {start[key]:.4g} → {end[key]:.4g}" for key in start if key != "logits"]
    return "its logits changed: " + ", ".join(changes)


def audit_run(folder: RunFolder) -> dict[str, Any]:
    """Return the audit of a run, with `checked`: the frozen tensors whose bytes in the best checkpoint were hashed.

    RunError: the run has no audit or no evaluated checkpoint, or the checkpoint holds other bytes than the audit names.
    """
    report: dict[str, Any] = folder.read_json("audit.json")
    best = Checkpoints(folder.checkpoints, 1).best()
    if best is None:
        hint = f"finish it with `zoo finetune {folder.recipe} --out {folder.path} --resume`"
        raise RunError(f"the run in {str(folder.path)!r} has no evaluated checkpoint yet", hint=hint)
    tensors = read(best).tensors
    checked = [
        (f"{name} of {kind}", found["start"], digest(tensors[kind][name]))
        for kind in ("model", "ema")
        for name, found in report["frozen"].items()
        if name in tensors.get(kind, {})
    ]
    wrong = [name for name, start, now in checked if start != now]
    if wrong or not report["held"]:
        what = f"frozen, but moved: {', '.join(wrong[:5])}" if wrong else "the run's own audit failed"
        raise RunError(what, where=str(folder.path / "audit.json"), hint="run the recipe again")
    return {**report, "checked": len(checked), "checkpoint": best.name}
