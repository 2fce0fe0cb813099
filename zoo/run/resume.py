"""Going on with a run: by its own recipe, on its own data, from its newest whole checkpoint; or not at all."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.errors import RunError
from zoo.recipe import Recipe, load_recipe
from zoo.registry import Registry
from zoo.run.folder import RunFolder
from zoo.run.logs import tell
from zoo.run.origins import refuse_changes, refuse_unknown, tell_versions
from zoo.train.checkpoint import Checkpoint
from zoo.train.loop import Loop

MEASURED = ("precision", "channels_last")
"""Keys of `[device]` that a run measures when they are "auto"."""


def keep_to(recipe: Recipe, folder: RunFolder, registry: Registry, changes: Sequence[str]) -> Recipe:
    """Return the recipe for a resume: the run's own, with `changes`.

    RunError: `recipe` differs from it elsewhere, or a part of it comes from another version of its distribution, or
    from one that the run does not name.

    What the recipe leaves to measuring ("auto") is no difference: the run's recipe has what was measured.
    """
    refuse_unknown(recipe, folder)
    refuse_changes(recipe, folder)
    tell_versions(folder)
    kept = load_recipe(folder.recipe, registry)
    given, found = recipe.device.common, kept.device.common
    recipe = recipe.with_device(**{key: getattr(found, key) for key in MEASURED if getattr(given, key) == "auto"})
    different = [
        key
        for key, old, new in differences(kept.to_table(), recipe.to_table())
        if not any(key == change or key.startswith(f"{change}.") for change in changes)
        and not (None in (old, new) and f"{key.rpartition('.')[0]}.use" in changes)  # another part's own options
    ]
    if different:
        hint = f"give the run's own recipe, or name the change: --set {different[0]}=…"
        raise RunError(f"the recipe is not the run's: {', '.join(different)}", where=str(folder.recipe), hint=hint)
    return recipe


def differences(old: Any, new: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """Return (dotted key, old value, new value) wherever two plain tables differ; what is absent counts as None."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted({*old, *new})
        found = [differences(old.get(name), new.get(name), f"{key}.{name}".lstrip(".")) for name in names]
        return [difference for group in found for difference in group]
    return [] if old == new else [(key, old, new)]


def go_on(loop: Loop, changes: Sequence[str] = ()) -> None:
    """Take the loop to the newest whole checkpoint.

    RunError: its classes, its preprocessing or its images are not those of now, or it does not fit the model. Other
    images are taken when `changes` names a key of `[data]`.
    """
    checkpoints = loop.job.checkpoints
    for fault in checkpoints.damaged():
        tell("damaged", f"{fault}; passed over")
    newest = checkpoints.newest()
    seen = [name or "none" for name in loop.job.strategy.gather(newest and newest.path.name)]
    if len(set(seen)) > 1:
        what = f"the processes see other checkpoints: {', '.join(seen)}"
        raise RunError(what, where=str(checkpoints.folder), hint="the run's folder must be one for all of them")
    if newest is None:
        tell("resume", "no whole checkpoint yet: from the start")
        return
    meant = any(change.split(".")[0] == "data" for change in changes)
    _check_facts(newest, loop.job.facts, ("classes", "input") if meant else ("classes", "input", "images"))
    try:
        loop.load(newest)
    except (KeyError, RuntimeError) as error:  # torch's for other names and shapes; no moving average in it
        what = f"{newest.path.name} does not fit the recipe: {str(error).splitlines()[0]}"
        hint = "resume with the run's own recipe, or start a new run"
        raise RunError(what, where=str(newest.path), hint=hint) from error
    tell("resume", f"{newest.path.name}: epoch {loop.progress.epoch + 1}, step {loop.progress.step}")


def _check_facts(checkpoint: Checkpoint, now: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Compared as JSON has them: there a tuple is a list."""
    then = checkpoint.state["facts"]
    different = [key for key in keys if key in then and json.dumps(then[key]) != json.dumps(now[key])]
    if different:
        words = [f"{key} {_shortly(then[key])} then, {_shortly(now[key])} now" for key in different]
        what = f"the data is not what the run was trained on: {'; '.join(words)}"
        meant = "; name a key of it to take other images: --set data.…=…" if different == ["images"] else ""
        hint = f"put it back, or start a new run{meant}"
        raise RunError(what, where="[data]", hint=hint)


def _shortly(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
