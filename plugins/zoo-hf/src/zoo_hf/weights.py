"""The weights source `transformers`: a checkpoint as `save_pretrained` writes it.

A file's names are not always the module's: transformers renames when it loads. Since its version 5 a ViT's
`encoder.layer.0.attention.attention.query` is `layers.0.attention.q_proj`. Its own table of renamings is applied here.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zoo
from safetensors import SafetensorError, safe_open
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.utils import cached_file

from zoo_hf.backbone import architectures
from zoo_hf.input import FILE as PREPROCESSING
from zoo_hf.input import find_input
from zoo_hf.plugin import TransformersWeightsOptions
from zoo_hf.repository import open_repository

FILES = ("model.safetensors", "model.safetensors.index.json")


def build(options: TransformersWeightsOptions, request: zoo.WeightsRequest) -> zoo.WeightsFile:
    """Return where the checkpoint is, and what its keys are called in the module.

    ZooError: there is none, it cannot be read, or transformers makes other tensors of it.
    """
    path = _find(options)
    rename: tuple[tuple[str, str], ...] = ()
    keys, config = _keys(path), _read(path.parent / "config.json")
    if request.native.library == "transformers":
        with zoo.on_meta():
            rename = _renamed(keys, request.native.build(2), path)
    kind = config.get("model_type")
    return zoo.WeightsFile(
        path,
        origin=f"transformers {options.path}",
        architecture=kind and f"transformers/{kind}",
        rename=rename,
        input=_input(options, path),
        classes=_classes(config),
    )


def _find(options: TransformersWeightsOptions) -> Path:
    folder = Path(options.path)
    if folder.is_dir():
        found = [folder / file for file in FILES if (folder / file).is_file()]
    else:
        asked = {"revision": options.revision, "_raise_exceptions_for_missing_entries": False}
        try:
            fetched = {
                file: cached_file(options.path, file, **asked) for file in (*FILES, "config.json", PREPROCESSING)
            }
            found = [Path(fetched[file]) for file in FILES if fetched[file]]
        except OSError as error:
            what = f"the weights {options.path!r} cannot be had: {str(error).strip().splitlines()[0]}"
            raise zoo.ZooError(what, where="[weights] path", hint="name a folder, or a name on the hub") from error
    if not found:
        what = f"there is no {FILES[0]} in {options.path!r}"
        raise zoo.ZooError(what, where="[weights] path", hint="save the model with save_pretrained")
    return found[0]


def _keys(path: Path) -> list[str]:
    try:
        if path.suffix == ".json":
            return list(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise zoo.ZooError(f"the weights cannot be read: {error}", where=str(path), hint="fetch them anew") from error


def _renamed(keys: list[str], module: Any, path: Path) -> tuple[tuple[str, str], ...]:
    """Return (pattern of one key, its name in the module) for the keys that transformers calls something else."""
    table = get_model_conversion_mapping(module)
    renamings = [entry for entry in table if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in table if isinstance(entry, WeightConverter)]
    own: Mapping[str, Any] = module.state_dict()
    pairs = []
    for key in keys:
        name, converted = rename_source_key(key, renamings, converters, module.base_model_prefix, own)
        if converted is not None:
            what = f"transformers makes other tensors of {key!r} when it loads, {name!r} among them"
            raise zoo.ZooError(what, where=str(path), hint="load it with transformers and save its state_dict")
        if name != key:
            pairs.append((f"^{re.escape(key)}$", name.replace("\\", "\\\\")))
    return tuple(pairs)


def _read(path: Path) -> dict[str, Any]:
    """Return what the configuration beside the weights says; nothing when there is none. ZooError: it is damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise zoo.ZooError(f"the file is no JSON: {error}", where=str(path), hint="fetch or save it anew") from error
    return found


def _input(options: TransformersWeightsOptions, path: Path) -> zoo.InputSpec | None:
    """Return the preprocessing that is saved with the weights; None where none is."""
    if not (path.parent / PREPROCESSING).is_file():
        return None
    repository = open_repository(options.path, options.revision, architectures())
    return find_input(repository.config, repository)


def _classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the class names that a configuration has; None where it has none of its own."""
    named = config.get("id2label")
    if not named or set(named.values()) == {f"LABEL_{index}" for index in range(len(named))}:
        return None
    names = tuple(named[str(index)] for index in range(len(named)))
    return names if len(set(names)) == len(names) else None
