"""The corpus of mutated checkpoints (tests/weights/corpus) through zoo's loader and through those of others.

Of each file the truth is known: the exact tensors, or that it must be refused. Each loader is called as its users call
it; where the truth hangs on an option that only zoo has, the case is left out. A loader that raises nothing and leaves
other tensors in the model is silently wrong; what it logs or prints does not count. mmengine and Lightning take part
where they are installed. The table is in docs/weights.md.

torch 2.14.1, timm 1.0.31, mmengine 0.10.7, Lightning 2.6.6, 554 files: silently wrong in zoo are 0; in the others, as
most training code calls them, 340 in torch, 74 in timm, 350 in mmengine and 47 in Lightning.
"""

import contextlib
import io
import logging
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import timm
import torch
from machine import describe
from safetensors.torch import load_file
from torch import nn

import zoo.weights
from tests.weights.corpus import CANARY, CASES, Case, Refused
from tests.weights.corpus.models import fresh
from zoo.registry.contracts import WeightsFile

Outcome = Literal["right", "refused", "silently wrong", "code run"]
Loader = Callable[[nn.Module, Case, WeightsFile], object]
FILES = [case for case in CASES if not case.by_option]
Results = Mapping[str, Counter[Outcome]]
"""Outcomes by kind of file."""
OUTCOMES: tuple[Outcome, ...] = ("right", "refused", "silently wrong", "code run")
WORDS: dict[Outcome, str] = {"silently wrong": "wrong", "code run": "ran code"}


def by_zoo(model: nn.Module, case: Case, file: WeightsFile) -> object:
    return zoo.weights.load(model, file, **case.options)


def by_torch(strict: bool) -> Loader:
    """What most training code does."""

    def load(model: nn.Module, case: Case, file: WeightsFile) -> object:
        if file.path.suffix == ".safetensors":
            content: Any = load_file(file.path)
        else:
            content = torch.load(file.path, map_location="cpu", weights_only=True)
        return model.load_state_dict(content.get("state_dict", content), strict=strict)

    return load


def by_timm(strict: bool) -> Loader:
    def load(model: nn.Module, case: Case, file: WeightsFile) -> object:
        raw, order = case.options.get("which") == "raw", file.align == "order"
        return timm.models.load_checkpoint(model, str(file.path), use_ema=not raw, strict=strict, remap=order)

    return load


def by_mmengine(strict: bool) -> Loader:
    from mmengine.runner import load_checkpoint

    def load(model: nn.Module, case: Case, file: WeightsFile) -> object:
        revise = [(r"^module\.", ""), *file.rename]
        path = str(file.path)
        return load_checkpoint(model, path, map_location="cpu", strict=strict, logger="silent", revise_keys=revise)

    return load


def by_lightning(strict: bool) -> Loader:
    """Its own files into a module that has the network as `model`; its loader takes no others, so those as in torch."""
    from lightning import LightningModule

    class Lit(LightningModule):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

    def load(model: nn.Module, case: Case, file: WeightsFile) -> object:
        if file.path.suffix == ".safetensors":
            return by_torch(strict)(model, case, file)
        try:
            return Lit.load_from_checkpoint(file.path, map_location="cpu", strict=strict, model=model)
        except KeyError:
            return by_torch(strict)(model, case, file)

    return load


LOADERS: dict[str, tuple[str, Callable[[], Loader]]] = {
    "zoo": ("timm", lambda: by_zoo),
    "torch, strict=True": ("torch", lambda: by_torch(True)),
    "torch, strict=False": ("torch", lambda: by_torch(False)),
    "timm, strict=True": ("timm", lambda: by_timm(True)),
    "timm, strict=False": ("timm", lambda: by_timm(False)),
    "mmengine, strict=True": ("mmengine", lambda: by_mmengine(True)),
    "mmengine, strict=False": ("mmengine", lambda: by_mmengine(False)),
    "Lightning, strict=True": ("lightning", lambda: by_lightning(True)),
    "Lightning, strict=False": ("lightning", lambda: by_lightning(False)),
}
"""The package that each needs, and how it is made. mmengine is lax by default, the others are strict."""
USUAL = ("zoo", "torch, strict=False", "timm, strict=True", "mmengine, strict=False", "Lightning, strict=True")
"""As most training code calls them."""


def present() -> Iterator[tuple[str, Loader]]:
    for name, (package, make) in LOADERS.items():
        if find_spec(package) is None:
            print(f"left out     {name}: {package} is not installed")
        else:
            yield name, make()


def outcome(case: Case, load: Loader) -> Outcome:
    expected, model = case.expected(), fresh(case.architecture)
    with TemporaryDirectory() as folder:
        file = case.write(Path(folder))
        try:
            load(case.around(model), case, file)
            refused = False
        except Exception:  # noqa: BLE001  # whatever a loader raises is its refusal
            refused = True
        if (Path(folder) / CANARY).exists():
            return "code run"
    if isinstance(expected, Refused):
        return "right" if refused else "silently wrong"
    state = model.state_dict()
    right = all(torch.equal(state[name], value) for name, value in expected.items())
    return "refused" if refused else "right" if right else "silently wrong"


def measure(load: Loader) -> dict[str, Counter[Outcome]]:
    """Return the outcomes of all cases, by kind."""
    counts: dict[str, Counter[Outcome]] = {}
    for case in FILES:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = outcome(case, load)
        counts.setdefault(case.kind, Counter())[found] += 1
    return counts


def cell(count: Counter[Outcome]) -> str:
    told = [f"{count[outcome]} {word}" for outcome, word in WORDS.items() if count[outcome]]
    return ", ".join([f"{count['right']} / {count.total()}", *told])


def total(counts: Results) -> Counter[Outcome]:
    return sum(counts.values(), Counter())


def markdown(rows: Iterable[Iterable[object]]) -> str:
    head, *body = [list(map(str, row)) for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *body])


def by_kind(results: Mapping[str, Results]) -> str:
    kinds = dict.fromkeys(case.kind for case in FILES)
    shown = [name for name in results if name in USUAL]
    rows = [[kind, *(cell(results[name][kind]) for name in shown)] for kind in kinds]
    return markdown([["files", *shown], *rows])


def in_all(results: Mapping[str, Results]) -> str:
    rows = [[name, *(total(counts)[outcome] for outcome in OUTCOMES)] for name, counts in results.items()]
    return markdown([["loader", *OUTCOMES], *rows])


def versions() -> str:
    told = []
    for package in ("torchvision", "safetensors", "mmengine", "lightning"):
        with contextlib.suppress(PackageNotFoundError):
            told.append(f"{package} {version(package)}")
    return ", ".join(told)


def main() -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    print(f"{describe()}, {versions()}")
    loading = sum(not isinstance(case.truth, Refused) for case in FILES)
    architectures = {case.architecture.partition(",")[0] for case in FILES}
    told = f"{loading} to be loaded into {len(architectures)} architectures, {len(FILES) - loading} to be refused"
    print(f"files        {len(FILES)}: {told}; left out {len(CASES) - len(FILES)} that hang on an option of zoo's")
    results: dict[str, Results] = {}
    for name, load in present():
        started = time.perf_counter()
        results[name] = measure(load)
        told = ", ".join(f"{total(results[name])[outcome]} {outcome}" for outcome in OUTCOMES)
        print(f"{name:<24} {told}; {time.perf_counter() - started:.0f} s", flush=True)
    print(f"\n{in_all(results)}\n\n{by_kind(results)}")
    count = total(results["zoo"])
    return int(count["right"] < count.total())


if __name__ == "__main__":
    sys.exit(main())
