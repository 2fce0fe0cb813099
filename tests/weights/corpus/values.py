"""Files that hold less or more than the model, or other numbers than a model can use."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from tests.weights.corpus.case import Case, Refused, Truth, changed, prefixed, refused, short, whole
from tests.weights.corpus.models import State, born, trained

RESNET, VIT, EFFICIENTNET = "timm/test_resnet", "timm/test_vit", "timm/test_efficientnet"
CONVNEXT, MOBILENET, DENSENET = "timm/test_convnext", "timm/mobilenetv3_small_050", "torchvision/densenet, cut"
LACKS, MORE = r"not in the file: .+ of the model", r"not in the model: .+ of the file"


def cases() -> Iterator[Case]:
    yield from _half()
    yield from _extra()
    yield from _types()
    yield from _numbers()
    yield from _odd()
    yield from _shared()


Keep = Callable[[int, str], bool]


def _kept(keep: Keep, state: State) -> State:
    return {name: value for place, (name, value) in enumerate(state.items()) if keep(place, name)}


def _partly(keep: Keep, file: State, first: State) -> State:
    return {**first, **_kept(keep, file)}


def _half() -> Iterator[Case]:
    for architecture in (RESNET, VIT, EFFICIENTNET, DENSENET):
        middle = len(born(architecture)) // 2
        yield from _missing(f"first half, {short(architecture)}", architecture, partial(_before, middle))
        yield from _missing(f"second half, {short(architecture)}", architecture, partial(_after, middle))
        yield from _missing(f"every other, {short(architecture)}", architecture, lambda place, _: place % 2 == 0)
    yield from _missing("no statistics", RESNET, lambda _, name: "running" not in name)
    yield from _missing("one tensor missing", CONVNEXT, lambda place, _: place != 20)
    nothing = refused(r"x\.pth does not fit the model: 0\.00 % of the backbone's [\d,]+ elements are covered")
    options = {"may_miss": ["*"]}
    yield changed("half file", "nothing but counters", RESNET, partial(_kept, _counts), nothing, options=options)
    uncounted = partial(_partly, _counts_not)
    yield changed("half file", "no counters, as before torch 0.4.1", RESNET, partial(_kept, _counts_not), uncounted)


def _before(middle: int, place: int, _: str) -> bool:
    return place < middle


def _after(middle: int, place: int, _: str) -> bool:
    return place >= middle


def _counts(_: int, name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _counts_not(place: int, name: str) -> bool:
    return not _counts(place, name)


def _missing(name: str, architecture: str, keep: Keep) -> Iterator[Case]:
    """A file that lacks tensors: refused, and taken when just those may miss."""
    change = partial(_kept, keep)
    yield changed("half file", name, architecture, change, refused(LACKS))
    lacking = [key for place, key in enumerate(born(architecture)) if not keep(place, key)]
    options = {"may_miss": lacking}
    yield changed("half file", f"{name}, allowed", architecture, change, partial(_partly, keep), options=options)


BRANCHES: dict[str, tuple[str, dict[str, torch.Tensor]]] = {
    "an auxiliary classifier": (RESNET, {"aux.conv.weight": torch.eye(4), "aux.fc.bias": torch.ones(3)}),
    "a projector": (VIT, {"projector.0.weight": torch.eye(4), "projector.2.bias": torch.ones(2)}),
    "the loss": (EFFICIENTNET, {"criterion.weight": torch.ones(10)}),
    "metrics": (CONVNEXT, {"accuracy.tp": torch.ones(10), "accuracy.fp": torch.zeros(10)}),
    "another stage": (RESNET, {"layer5.0.conv1.weight": torch.eye(4)}),
    "a bias beside": (CONVNEXT, {"stages.0.blocks.0.conv_dw.offset": torch.ones(24)}),
}


def _extra() -> Iterator[Case]:
    for name, (architecture, more) in BRANCHES.items():
        change = partial(_with, more)
        yield changed("extra branch", name, architecture, change, refused(MORE))
        yield changed("extra branch", f"{name}, allowed", architecture, change, options={"may_drop": list(more)})
    wrapped = partial(_in_lightning, {"loss.weight": torch.ones(10)})
    yield changed("extra branch", "beside a namespace", RESNET, wrapped, refused(r"not in the model: loss\.weight .+"))
    yield changed("extra branch", "beside a namespace, allowed", RESNET, wrapped, options={"may_drop": ["loss.*"]})
    typo = refused(r"may_drop 'los\.\*' matches no key of the file")
    options: dict[str, Any] = {"may_drop": ["los.*"]}
    yield changed("extra branch", "a pattern of nothing", RESNET, wrapped, typo, options=options, by_option=True)
    both = refused(r"not in the model: model\..+, … \(\d+ keys\) of the file")
    yield changed("extra branch", "the model once more", RESNET, _twice, both)
    # What a second branch calls as the model does is not the model's, whatever stands before it.
    other = refused(r"not in the file: fc\.weight, fc\.bias of the model", r"not in the model: .+ of the file")
    for branch in ("aux", "teacher"):
        name, change = f"{branch}.fc, and no fc", partial(_other_classifier, branch)
        yield changed("extra branch", name, RESNET, change, other)
        options = {"may_drop": [f"{branch}.*"], "head": "reset", "classifier": "fc"}
        yield changed("extra branch", f"{name}, allowed", RESNET, change, _first_classifier, options=options)


def _with(more: dict[str, Any], state: State) -> Any:
    return {**state, **more}


def _in_lightning(more: dict[str, Any], state: State) -> Any:
    return {"state_dict": {**prefixed("model.", state), **more}}


def _other_classifier(branch: str, state: State) -> Any:
    """A file whose only classifier is that of another branch."""
    return {f"{branch}.{name}" if name.startswith("fc.") else name: value for name, value in state.items()}


def _first_classifier(file: State, first: State) -> State:
    return {name: first[name] if name.startswith("fc.") else value for name, value in file.items()}


def _twice(state: State) -> Any:
    return {**state, **prefixed("model.", state)}


def _halved(state: State) -> State:
    return {name: value.half() for name, value in state.items()}


def _typed(kind: torch.dtype, state: State) -> State:
    return {name: value.to(kind) if value.is_floating_point() else value for name, value in state.items()}


def _rounded(kind: torch.dtype, file: State, _: State) -> State:
    return _typed(kind, file)


def _types() -> Iterator[Case]:
    for kind in (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn):
        name = str(kind).removeprefix("torch.")
        for architecture in (RESNET, VIT):
            change = partial(_typed, kind)
            yield changed("dtype", f"{name}, {short(architecture)}", architecture, change, partial(_rounded, kind))
    for name in ("half", "bfloat16"):
        yield changed("dtype", f"float32 into {name}", f"{RESNET}, {name}", dict, source=RESNET)
    whole_numbers = refused(r"of another shape or type: .+ \(int8 in the file, float32 in the model\).*")
    for architecture in (RESNET, VIT):
        yield changed("dtype", f"int8, {short(architecture)}", architecture, partial(_typed, torch.int8), whole_numbers)
    yield from _one_typed()


def _one(name: str, change: Callable[[torch.Tensor], torch.Tensor], state: State) -> State:
    return {**state, name: change(state[name])}


def _one_typed() -> Iterator[Case]:
    name = "layer1.0.conv1.weight"
    said = r"of another shape or type: layer1\.0\.conv1\.weight \({} in the file, float32 in the model\)"
    for kind in (torch.int64, torch.bool, torch.complex64):
        lines = refused(said.format(str(kind).removeprefix("torch.")))
        yield _changed_one("dtype", f"one tensor is {kind}", name, partial(torch.Tensor.to, dtype=kind), lines)
    half = partial(_one_after, name, torch.Tensor.half)
    yield _changed_one("dtype", "one tensor is float16", name, torch.Tensor.half, half)
    counters = refused(r"of another shape or type: .*num_batches_tracked \(float16 in the file, int64 in the model\).*")
    yield changed("dtype", "counters are float16 too", RESNET, _halved, counters)
    large = refused(r"of another shape or type: .+ \(float32 in the file, too large for float16 in the model\)")
    change = partial(_one, name, lambda value: value * 1e6)
    yield changed("dtype", "too large for the model", f"{RESNET}, half", change, large, source=RESNET)


def _one_after(name: str, change: Callable[[torch.Tensor], torch.Tensor], file: State, _: State) -> State:
    return _one(name, change, file)


def _changed_one(
    kind: str, name: str, tensor: str, change: Callable[[torch.Tensor], torch.Tensor], truth: Truth, **more: Any
) -> Case:
    return changed(kind, name, RESNET, partial(_one, tensor, change), truth, **more)


def _spoilt(number: float, value: torch.Tensor) -> torch.Tensor:
    value = value.clone()
    value.view(-1)[value.numel() // 2] = number
    return value


def _numbers() -> Iterator[Case]:
    for name in ("layer2.0.conv1.weight", "layer1.0.bn1.bias", "layer1.0.bn1.running_mean", "fc.bias"):
        for number in (float("nan"), float("inf"), float("-inf")):
            change = partial(_spoilt, number)
            lines = refused(rf"{name.replace('.', chr(92) + '.')} of the file holds NaN or Inf")
            yield _changed_one("NaN or Inf", f"{number} in {name}", name, change, lines)
    halves = refused(r".+ of the file holds? NaN or Inf")
    overflown = partial(_overflown, "blocks.0.mlp.fc1.weight")
    yield changed("NaN or Inf", "a half that ran over", VIT, overflown, halves)


def _overflown(name: str, state: State) -> State:
    return _typed(torch.float16, {**state, name: state[name] * 1e6})


def _odd() -> Iterator[Case]:
    """Loaded all the same, and flagged."""
    conv, norm = "layer2.0.conv1.weight", "layer1.0.bn1.weight"
    yield _flagged("all zeros", conv, torch.zeros_like, "all zeros")
    yield _flagged("all equal", conv, lambda value: torch.full_like(value, 0.5), "all equal")
    yield _flagged("a scale of zeros", norm, torch.zeros_like, "all zeros")
    yield _flagged("a variance of zero", "layer1.0.bn1.running_var", partial(_spoilt, 0.0), "running_var <= 0")
    yield _flagged("a negative variance", "layer1.0.bn1.running_var", partial(_spoilt, -1.0), "running_var <= 0")
    yield _fresh()


def _fresh() -> Case:
    """A file that was never trained."""
    first = born(RESNET)
    even = [name for name, value in first.items() if name.endswith("weight") and bool(value.min() == value.max())]
    vectors = sum(value.dim() == 1 and name != "fc.bias" for name, value in first.items())
    why = f"like a fresh initialisation: each of its {vectors} vectors is all equal"
    flags = (*((name, f"all {'zeros' if first[name].sum() == 0 else 'equal'}") for name in even), ("the backbone", why))
    options = {"classifier": "fc"}
    return changed(
        "constant", "never trained", RESNET, lambda _: first, lambda _, own: own, options=options, flags=flags
    )


def _flagged(name: str, tensor: str, change: Callable[[torch.Tensor], torch.Tensor], why: str) -> Case:
    truth = partial(_one_after, tensor, change)
    return _changed_one("constant", name, tensor, change, truth, flags=((tensor, why),))


def _shared() -> Iterator[Case]:
    tied, other = "own, tied", trained("own, tied", seed=1)["mirror.weight"]
    yield changed("shared memory", "two names with one value", tied, dict)
    two = refused(r"mirror\.weight and encode\.weight are one tensor of the model, and the file's values .+ differ")
    yield changed(
        "shared memory", "two names with two values", tied, lambda state: {**state, "mirror.weight": other}, two
    )
    once: Callable[[State], State] = partial(_kept, lambda _, name: name != "mirror.weight")
    lines: Refused = refused(r"not in the file: mirror\.weight of the model")
    yield changed("shared memory", "one of the names", tied, once, lines)
    yield changed("shared memory", "one of the names, allowed", tied, once, whole, options={"may_miss": ["mirror.*"]})
