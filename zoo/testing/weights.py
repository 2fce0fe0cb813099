"""Checks of weights sources. They are asked for the weights of timm's `test_resnet`, with a cache of their own."""

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

from zoo.backbones.timm import build as timm
from zoo.files import sha256
from zoo.registry.builtin.backbones import TimmOptions
from zoo.registry.contracts import Align, WeightsFile, WeightsRequest
from zoo.testing.kit import NotTriedError, Trial, check, expect
from zoo.testing.network import make, require_input, require_type
from zoo.weights.places import weights_request
from zoo.weights.reading import read_checkpoint


def request(trial: Trial) -> WeightsRequest:
    """Return what a source is told: the architecture, zoo's own cards, and an empty cache."""
    native = make(lambda: timm(TimmOptions(arch="test_resnet"), None)).native
    return replace(weights_request(native, None), cache=trial.folder / "cache")


def build(trial: Trial) -> WeightsFile:
    """Return where the weights are. NotTriedError: the source offers none."""
    found = trial.build(request(trial))
    if found is None:
        raise NotTriedError("the source gives no file: a random start")
    require_type(found, WeightsFile, trial)
    file: WeightsFile = found
    return file


@check("the ledger says where the weights came from, and refuses a file that is not whole")
def contract(trial: Trial) -> None:
    """A file that is there, an origin in words, and the SHA-256 of the file in lower-case hex, or none."""
    file = build(trial)
    expect(isinstance(file.path, Path) and file.path.exists(), "the path of a file that is there", file.path)
    expect(bool(file.origin), "an origin in words", repr(file.origin))
    if file.sha256 is not None and file.path.is_file():
        found = sha256(file.path)
        expect(found == file.sha256, f"a file with the SHA-256 {file.sha256}", found)


@check("nothing of a file is run, so it must be of a kind that can be read without")
def readable(trial: Trial) -> None:
    """Tensors that zoo reads, some of them floating-point, all of those finite."""
    tensors = read_checkpoint(build(trial).path, None, None).tensors
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    expect(bool(floats), "floating-point tensors", f"{len(tensors)} tensors, none of them")
    odd = [name for name, tensor in floats.items() if not tensor.isfinite().all()]
    expect(not odd, "finite values", odd[:3])


@check("a key that is renamed wrongly is a tensor that is not loaded")
def naming(trial: Trial) -> None:
    """Regular expressions that compile and match some key, and an alignment that zoo knows."""
    file = build(trial)
    expect(file.align in get_args(Align), f"an alignment out of {get_args(Align)}", file.align)
    keys = list(read_checkpoint(file.path, None, None).tensors)
    for pattern, replacement in file.rename:
        matching = [key for key in keys if re.search(pattern, key)]
        expect(bool(matching), f"a key that {pattern!r} matches", keys[:5])
        re.sub(pattern, replacement, matching[0])


@check("preprocessing and class names travel with the weights to the deployed model")
def facts(trial: Trial) -> None:
    """Preprocessing in the scale 0 to 1 and class names without doubles, where they are declared."""
    file = build(trial)
    if file.input is not None:
        require_input(file.input)
    if file.classes is not None:
        expect(isinstance(file.classes, tuple) and bool(file.classes), "class names as a tuple", file.classes)
        expect(len(set(file.classes)) == len(file.classes), "class names that differ", "a name twice")


@check("a run is repeated with the same weights, and nothing is downloaded twice")
def repeatable(trial: Trial) -> None:
    """Asked again, the same answer and the same bytes, and the file is not written again."""
    first = build(trial)
    stamp, digest = first.path.stat().st_mtime_ns, _digest(first.path)
    again = build(trial)
    expect(again == first, "the same answer", again)
    expect(_digest(again.path) == digest, "the same bytes", "others")
    expect(again.path.stat().st_mtime_ns == stamp, "a file that is left alone", "it was written again")


def _digest(path: Path) -> str:
    return sha256(path) if path.is_file() else ""


CHECKS = (contract, readable, naming, facts, repeatable)
