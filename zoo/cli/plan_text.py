"""What `zoo plan` prints: the lines of a preview, and the difference of two."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from zoo.cli.curve import draw

if TYPE_CHECKING:
    from zoo.run.cost import Features, StepMemory
    from zoo.run.preview import Data, Doing, Preview, Stage

Line = tuple[str, str]
NOTHING = "–"
ALL_ANEW = "nothing is computed once: all of it trains"
ALLOCATOR = "a CPU process may hold up to 25 % more under the C library's allocator; torch and the data come on top"


def head_lines(preview: "Preview") -> Iterator[Line]:
    """Yield what the run is about: recipe, network, weights, data, device."""
    yield "recipe", f"{preview.name}" + (f", {preview.path}" if preview.path else "")
    yield "backbone", preview.backbone
    for head in preview.heads:
        of = "" if head.target == "class" else f" of {head.target}"
        yield "head", f"{head.name}: {head.use}, {head.classes} classes{of}"
    yield "weights", preview.weights
    yield "data", data_text(preview.data)
    yield "device", f"{preview.device}, {precision_text(preview)}"


def data_text(data: "Data") -> str:
    """Return what there is to train on, as a run says it, or that it is not here."""
    size = f"{data.size[0]} × {data.size[1]} px"
    if data.images is None:
        counted = f"heads are counted for {len(data.classes)} classes"
        return f"{data.use}, {size}; not here: {data.why}; {counted}"
    train, val = data.images
    return f"{data.use}: {train:,} train, {val:,} val, {len(data.classes)} classes, {size}"


def precision_text(preview: "Preview") -> str:
    """Return the precision of forward and backward."""
    return "precision measured by the run" if preview.precision == "auto" else preview.precision


def stage_rows(preview: "Preview") -> list[tuple[str, ...]]:
    """Return a table: stages and heads, their parameters, a rate for each phase, batch norms, and mode."""
    whens = [_when(phase.first, phase.end) for phase in preview.phases]
    columns = [f"epoch{'s' if '–' in whens[0] else ''} {whens[0]}", *whens[1:]] if len(whens) > 1 else ["rate"]
    rows = [_row(stage) for stage in preview.stages]
    titles = ("stage", "parameters", *columns, "batch norm", "mode")
    width = max(len(row[1]) for row in (titles, *rows))
    return [(row[0], row[1].rjust(width), *row[2:]) for row in (titles, *rows)]


def _row(stage: "Stage") -> tuple[str, ...]:
    rates = (rate_text(doing.rates) for doing in stage.phases)
    return (stage.name, millions(stage.parameters), *rates, norms_text(stage), mode_text(stage))


def _when(first: int, end: int) -> str:
    return f"{first + 1}" if end == first + 1 else f"{first + 1}–{end}"


def rate_text(rates: Sequence[float | None]) -> str:
    """Return the rates that occur in a stage as one word: a rate, a range, "frozen", "zero-lr"; "(part)" of it."""
    moving = [rate for rate in rates if rate]
    if not moving:
        return ", ".join("frozen" if rate is None else "zero-lr" for rate in rates) or NOTHING
    shown = f"{moving[0]:.3g}" if len(moving) == 1 else f"{min(moving):.2g}–{max(moving):.2g}"
    return shown if len(moving) == len(rates) else f"{shown} (part)"


def norms_text(stage: "Stage") -> str:
    """Return how many batch norms of a stage are fixed and tracked, phase after phase where that changes."""
    return _changes(_norms(doing) for doing in stage.phases)


def _norms(doing: "Doing") -> str:
    counts = ((doing.fixed, "fixed"), (doing.tracked, "tracked"))
    return ", ".join(f"{count} {word}" for count, word in counts if count) or NOTHING


def mode_text(stage: "Stage") -> str:
    """Return the mode of a stage, phase after phase where that changes."""
    return _changes(doing.mode or NOTHING for doing in stage.phases)


def _changes(texts: Iterator[str]) -> str:
    return " → ".join(text for text, _ in groupby(texts))


def plan_lines(preview: "Preview") -> Iterator[Line]:
    """Yield what trains, what the optimiser holds, what is computed once, and what a run takes."""
    for place, phase in enumerate(preview.phases):
        share = f"{millions(phase.trained)} of {millions(preview.parameters)} parameters train"
        norms = f"batch norms: {phase.fixed_norms} fixed, {phase.tracked_norms} tracked"
        yield "freeze", f"{preview.policy}: {_from(preview, place)}{share}; {norms}"
    held = preview.optimizer
    groups = f"{counted(held.groups, 'group')} of {millions(held.parameters)} parameters"
    decayed = f"{millions(held.decayed)} of them decayed by {held.weight_decay:g}"
    yield "optimiser", f"{held.use}: {groups}, {decayed}; state {bytes_text(held.state)}"
    yield from _features_lines(preview)
    yield "steps", steps_text(preview)
    for found in preview.memory:
        yield from _memory_lines(preview, found)
    if preview.device.startswith(("cpu", "not here")):
        yield "", ALLOCATOR
    yield "checkpoint", checkpoint_text(preview)


def _from(preview: "Preview", place: int) -> str:
    """When a phase begins, where there are several."""
    return f"from epoch {preview.phases[place].first + 1}: " if len(preview.phases) > 1 else ""


def _features_lines(preview: "Preview") -> Iterator[Line]:
    """A line where it differs from the phase before; none for a run that trains everything."""
    texts = [features_text(found) for found in preview.features]
    for place, text in enumerate(texts):
        if any(texts) and (place == 0 or text != texts[place - 1]):
            yield "features", f"{_from(preview, place)}{text or ALL_ANEW}"


def features_text(features: "Features") -> str:
    """Return what is computed once, or without gradients; empty where everything trains from the first stage on."""
    if not features.whole:
        stages = ", ".join(features.stages)
        return f"{stages}: without gradients, as nothing there changes" if stages else ""
    if not features.kept:
        return f"computed anew in every epoch, without gradients: {features.why}"
    shape = " × ".join(map(str, features.shape)) or "unknown size"
    if features.images is None:
        return f"computed once: whole backbone, {shape} features an image kept"
    size = "" if features.bytes is None else f", {bytes_text(features.bytes)}"
    return f"computed once: whole backbone, {features.images:,} × {shape} features kept{size}"


def steps_text(preview: "Preview") -> str:
    """Return how many steps there are."""
    pieces = f" in {preview.accumulate} micro-batches" if preview.accumulate > 1 else ""
    batches = f"batches of {preview.batch_size}{pieces}"
    epochs = counted(preview.epochs, "epoch")
    if preview.steps is None:
        return f"unknown while the data is not here: {epochs}, {batches}"
    return f"{preview.data.steps_per_epoch:,} an epoch × {epochs} = {preview.steps:,}, {batches}"


def _memory_lines(preview: "Preview", found: "StepMemory") -> Iterator[Line]:
    """The estimate of a step's memory, and what it counts."""
    when = _from(preview, found.phase)
    memory = found.memory
    if memory is None:
        yield "memory", f"{when}not known: {found.why}"
        return
    precision = "fp32, as the precision is not measured yet" if preview.precision == "auto" else preview.precision
    doing = "while features are computed" if preview.features[found.phase].kept else "in a step"
    images = counted(found.images, "image")
    yield "memory", f"{when}{bytes_text(found.peak)} at the peak {doing}, {images} at a time in {precision}"
    parts = (memory.weights, memory.gradients, memory.optimizer, memory.activations, found.average)
    words = ("weights", "gradients", "optimiser", "activations", "moving average")
    shown = [f"{word} {bytes_text(size)}" for word, size in zip(words, parts, strict=True) if size]
    yield "", ", ".join(shown)
    if preview.features[found.phase].kept:
        alone = memory.weights + memory.gradients + memory.optimizer + found.average
        kept = preview.features[found.phase].bytes
        beside = "" if kept is None else f" + {bytes_text(kept)} of features"
        yield "", f"after that the heads alone train: {bytes_text(alone)}{beside}"


def checkpoint_text(preview: "Preview") -> str:
    """Return how large a checkpoint is, and how much room all of them take."""
    size = preview.checkpoint
    if size.total is None:
        return f"weights {bytes_text(size.weights)}, optimiser not known"
    parts = {"weights": size.weights, "optimiser": size.optimizer, "moving average": size.average}
    shown = ", ".join(f"{name} {bytes_text(count)}" for name, count in parts.items() if count)
    return f"{bytes_text(size.total)} ({shown}); at most {size.most} are kept, {bytes_text(size.most * size.total)}"


def curve_lines(preview: "Preview") -> list[str]:
    """Return the learning rate over the run as a plot, the beginnings of later phases marked."""
    width, epochs = len(preview.curve.values), preview.epochs
    marks = [round(phase.first * (width - 1) / epochs) for phase in preview.phases[1:]]
    return draw(preview.curve.values, marks, ("epoch 1", f"end of epoch {epochs}"))


def curve_text(preview: "Preview") -> str:
    """Return the learning rate's peak and end in words."""
    curve = preview.curve
    step = f"step {curve.peak_step + 1:,} of {curve.total:,}"
    when = step if preview.steps is not None else f"{100 * curve.peak_step / curve.total:.0f} % of the run"
    marks = "; ┊ where a phase begins" if len(preview.phases) > 1 else ""
    return f"{curve.peak:.3g} at the peak, {when}; {curve.end:.3g} at the end; times a stage's rate{marks}"


def ledger_lines(preview: "Preview") -> list[str]:
    """Return the expected ledger without the line about its file."""
    if preview.ledger is None:
        return [f"{'ledger':<12} {preview.why_no_ledger}"]
    return preview.ledger.table().splitlines()[1:]


def facts(preview: "Preview") -> dict[str, str]:
    """Return what two plans are compared by beside their stages."""
    phases, held, data = preview.phases, preview.optimizer, preview.data
    ledger = preview.ledger
    return {
        "backbone": preview.backbone,
        "heads": ", ".join(f"{head.name}: {head.use}, {head.classes} classes" for head in preview.heads),
        "weights": preview.weights,
        "data": data_text(data),
        "device": f"{preview.device}, {precision_text(preview)}",
        "trained": ", ".join(millions(phase.trained) for phase in phases),
        "phases": ", ".join(_when(phase.first, phase.end) for phase in phases),
        "optimiser": f"{held.use}: {counted(held.groups, 'group')}, {millions(held.parameters)} parameters, "
        f"{millions(held.decayed)} decayed",
        "state": bytes_text(held.state),
        "features": "; ".join(dict.fromkeys(filter(None, map(features_text, preview.features)))) or ALL_ANEW,
        "peak memory": bytes_text(preview.peak),
        "steps": steps_text(preview),
        "peak rate": f"{preview.curve.peak:.3g}",
        "end rate": f"{preview.curve.end:.3g}",
        "checkpoint": bytes_text(preview.checkpoint.total),
        "ledger": preview.why_no_ledger or (ledger_lines(preview)[0].partition(" ")[2].strip() if ledger else ""),
    }


def differing(old: "Preview", new: "Preview") -> list[tuple[str, str, str]]:
    """Return (what, old, new) wherever two plans differ: facts, then stages."""
    before, after = facts(old), facts(new)
    found = [(name, before[name], after[name]) for name in before if before[name] != after[name]]
    stages = _stage_facts(old), _stage_facts(new)
    names = dict.fromkeys([*stages[0], *stages[1]])
    rows = ((name, stages[0].get(name, {}), stages[1].get(name, {})) for name in names)
    return [*found, *((f"stage {name}", *_differing(was, now)) for name, was, now in rows if was != now)]


def _stage_facts(preview: "Preview") -> dict[str, dict[str, str]]:
    return {
        stage.name: {
            "parameters": millions(stage.parameters),
            "rate": ", ".join(rate_text(doing.rates) for doing in stage.phases),
            "batch norm": norms_text(stage),
            "mode": mode_text(stage),
        }
        for stage in preview.stages
    }


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, str]:
    keys = [key for key in (old or new) if old.get(key) != new.get(key)]
    old_text, new_text = ("; ".join(f"{key} {facts[key]}" for key in keys if facts) for facts in (old, new))
    return old_text or "none", new_text or "none"


def value_text(value: Any, most: int = 80) -> str:
    """Return a recipe's value, shortened."""
    import json

    text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def counted(count: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def millions(count: int) -> str:
    """Return a number of parameters, in millions from ten thousand on."""
    return f"{count / 1e6:.2f} M" if count >= 10_000 else f"{count:,}"


def bytes_text(count: int | None) -> str:
    """Return a number of bytes in decimal kilobytes, megabytes or gigabytes."""
    if count is None:
        return "not known"
    if count < 1e5:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
