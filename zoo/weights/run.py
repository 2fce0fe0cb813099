"""Weights of an earlier run, from its checkpoints."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli

from zoo.errors import WeightsError
from zoo.registry.builtin.weights import RunOptions
from zoo.registry.contracts import InputSpec, WeightsFile, WeightsRequest

Rename = tuple[tuple[str, str], ...]
LIBRARIES = frozenset({"timm", "torchvision"})
"""Backbones whose part has the name of the library."""


def build(options: RunOptions, request: WeightsRequest) -> WeightsFile:
    """Return a checkpoint of the run, with the run's class names and preprocessing.

    WeightsError: no run, no such checkpoint, a damaged one, or `ema` left out where there are two sets of weights.
    """
    recipe = _recipe(options.run)
    step = _step(options)
    state = _state(step)
    name = "ema.safetensors" if _averaged(options, state, step) else "model.safetensors"
    facts, kind = state["facts"], name.partition(".")[0].replace("model", "raw")
    return WeightsFile(
        step / name,
        origin=f"run {options.run}, {options.checkpoint} checkpoint {step.name} ({kind})",
        sha256=state["sha256"][name],
        architecture=_architecture(recipe),
        rename=_rename(recipe, request.native.classifier),
        input=_input(facts["input"]),
        classes=tuple(facts["classes"]),
        licence=(facts.get("base_weights") or {}).get("licence"),
    )


def _recipe(run: Path) -> Mapping[str, Any]:
    path = run / "recipe.toml"
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        hint = "name a folder that `zoo finetune` made, below `runs/` if not told otherwise"
        raise WeightsError(f"{str(run)!r} is not a run's folder: it has no recipe.toml", hint=hint) from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"the run's recipe cannot be read: {error}", where=str(path)) from None


def _step(options: RunOptions) -> Path:
    """Return the checkpoint's folder."""
    folder = options.run / "checkpoints"
    found = _best(folder) if options.checkpoint == "best" else max(folder.glob("step-*"), default=None)
    if found is None or not found.is_dir():
        hint = (
            'checkpoint = "last" takes the newest one'
            if options.checkpoint == "best"
            else "let it train to its first one"
        )
        raise WeightsError(f"the run has no {options.checkpoint} checkpoint yet", where=str(folder), hint=hint)
    return found


def _best(folder: Path) -> Path | None:
    path = folder / "index.json"
    try:
        name = Path(json.loads(path.read_text(encoding="utf-8"))["best"]).name  # never outside the folder
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"index.json cannot be read: {_said(error)}", str(path), 'use checkpoint = "last"') from None
    return folder / name


def _state(step: Path) -> Mapping[str, Any]:
    """Return the checkpoint's state.json. WeightsError: its own digest, the last of them, is another."""
    path = step / "state.json"
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        plain = json.dumps({key: value for key, value in state.items() if key != "sha256"})
        fault = "" if hashlib.sha256(plain.encode()).hexdigest() == state["sha256"]["state.json"] else "other bytes"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = _said(error)
    if fault:
        raise WeightsError(
            f"the checkpoint {step.name} is damaged: state.json: {fault}", str(path), "use another checkpoint"
        )
    return state


def _averaged(options: RunOptions, state: Mapping[str, Any], step: Path) -> bool:
    """Tell whether the moving average is meant."""
    has = "ema.safetensors" in state["sha256"]
    if has and options.ema is None:
        raise WeightsError(
            f"{step.name} has the raw weights and their moving average: say which",
            where="[weights] ema",
            hint="ema = true takes the average, which is what was validated; ema = false the raw weights",
        )
    if options.ema and not has:
        what = f"{step.name} has no moving average: the run was made with ema = 0"
        raise WeightsError(what, where="[weights] ema", hint="leave `ema` out")
    return bool(options.ema)


def _architecture(recipe: Mapping[str, Any]) -> str | None:
    """`library/arch`; None for a plugin's backbone, whose library only the plugin knows."""
    backbone = recipe["backbone"]
    use = backbone["use"]
    return f"{use}/{_plain(use, backbone['arch'])}" if use in LIBRARIES else None


def _plain(library: str, arch: str) -> str:
    return arch.partition(".")[0] if library == "timm" else arch  # timm's tags name weights


def _rename(recipe: Mapping[str, Any], classifier: str | None) -> Rename:
    """The first head's layer becomes the native classifier.

    Whatever else the heads have is put below it too: so it is dropped with `head = "reset"`, and refused otherwise.
    """
    bare = ((r"^backbone\.", ""),)
    if classifier is None:
        return bare
    heads = recipe.get("head", {})
    first = (heads[0] if isinstance(heads, list) else heads).get("name", "main")
    place = f"backbone.{classifier}."
    return ((rf"^heads\.{re.escape(first)}\.linear\.", place), (r"^heads\.", f"{place}heads."), *bare)


def _input(table: Mapping[str, Any]) -> InputSpec:
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return InputSpec(**plain)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
