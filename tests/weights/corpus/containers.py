"""What training code saves around the weights, and files that hold several sets of them."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from tests.weights.corpus.case import Case, Refused, Truth, changed, prefixed, refused, short, whole
from tests.weights.corpus.models import SMALL, State, trained

RESNET, VIT = "timm/test_resnet", "timm/test_vit"
Contain = Callable[[Mapping[str, Any], State], Any]
"""From the state dict and the trained values that the moments of the optimiser are made of to what is saved."""


def cases() -> Iterator[Case]:
    yield from _single()
    yield from _nested()
    yield from _several()
    yield from _branches()


def optimiser(state: State) -> dict[str, Any]:
    """Return an Adam's state: tensors of the weights' shapes, under numbers."""
    moments = {
        number: {"step": torch.tensor(9.0), "exp_avg": value * 0.1, "exp_avg_sq": value.abs()}
        for number, value in enumerate(value for value in state.values() if value.is_floating_point())
    }
    return {"state": moments, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": list(moments)}]}


def _lightning(state: Mapping[str, Any], of: State) -> Any:
    return {
        "epoch": 3,
        "global_step": 99,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict(prefixed("model.", state)),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"completed": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [optimiser(of)],
        "lr_schedulers": [{"last_epoch": 3}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 1e-3, "model": "test"},
    }


def _mmengine(state: Mapping[str, Any], of: State) -> Any:
    meta = {"epoch": 3, "iter": 99, "cfg": "model = dict()", "dataset_meta": {"classes": ("a", "b")}}
    return {"meta": meta, "message_hub": {"log_scalars": {}}, "state_dict": state, "optimizer": optimiser(of)}


def _detectron2(state: Mapping[str, Any], of: State) -> Any:
    return {"model": state, "optimizer": optimiser(of), "scheduler": {"last_epoch": 3}, "iteration": 99}


def _torchvision(state: Mapping[str, Any], of: State) -> Any:
    args = {"lr": 0.1, "model": "resnet18"}
    return {"model": state, "optimizer": optimiser(of), "lr_scheduler": {"step": 1}, "epoch": 3, "args": args}


def _imagenet(state: Mapping[str, Any], of: State) -> Any:
    wrapped = prefixed("module.", state)
    return {"epoch": 3, "arch": "t", "state_dict": wrapped, "best_acc1": torch.tensor(70.0), "optimizer": optimiser(of)}


SINGLE: dict[str, Contain] = {
    "Lightning": _lightning,
    "mmengine": _mmengine,
    "detectron2": _detectron2,
    "detectron2's zoo": lambda state, _: {"model": state, "__author__": "someone", "matching_heuristics": True},
    "torchvision's references": _torchvision,
    "timm": lambda state, of: {"epoch": 3, "arch": "t", "state_dict": state, "optimizer": optimiser(of), "version": 2},
    "PyTorch's tutorial": lambda state, of: {"epoch": 3, "model_state_dict": state, "loss": torch.tensor(0.1)},
    "PyTorch's ImageNet example": _imagenet,
    "BasicSR": lambda state, _: {"params": state},
    "MAE": lambda state, of: {"model": state, "optimizer": optimiser(of), "epoch": 3, "scaler": {"scale": 65536.0}},
    "Ignite": lambda state, of: {"model": state, "trainer": {"iteration": 3}, "optimizer": optimiser(of)},
    "nobody's name": lambda state, of: {"weights_of_mine": state, "optimizer": optimiser(of), "note": "good"},
    "averaged alone": lambda state, _: {"state_dict_ema": state},
    "a state dict with a version": lambda state, _: {**state, "version": "1.0"},
}
NESTED: dict[str, Contain] = {
    "state_dict.model": lambda state, _: {"state_dict": {"model": state}, "epoch": 3},
    "model.state_dict": lambda state, of: {"model": {"state_dict": state, "config": {}}, "optimizer": optimiser(of)},
    "model.module": lambda state, _: {"model": {"module": state}},
    "net.params.weights": lambda state, _: {"net": {"params": {"weights": state}}},
    "state_dict.state_dict.model": lambda state, _: {"state_dict": {"state_dict": {"model": prefixed("net.", state)}}},
    "model.model, wrapped": lambda state, _: {"model": {"model": prefixed("module.model.", state), "step": 1}},
}


def _contained(contain: Contain, state: State) -> Any:
    return contain(state, state)


def _single() -> Iterator[Case]:
    for number, (name, contain) in enumerate(SINGLE.items()):
        for architecture in (SMALL[number % 7], SMALL[(number + 3) % 7]):
            yield changed("container", f"{name}, {short(architecture)}", architecture, partial(_contained, contain))
    code = refused(r"x\.pth asks for code to be run: types\.SimpleNamespace")
    yield changed("container", "arguments as a namespace", RESNET, _with_arguments, code)
    none = refused(r"x\.pth holds no state dict that zoo can find, only: optimizer, epoch")
    yield changed("container", "no weights at all", RESNET, lambda of: {"optimizer": optimiser(of), "epoch": 3}, none)


def _with_arguments(state: State) -> Any:
    return {"model": state, "args": SimpleNamespace(lr=0.1)}


def _nested() -> Iterator[Case]:
    for number, (name, contain) in enumerate(NESTED.items()):
        yield changed("nested container", name, SMALL[number % 7], partial(_contained, contain))
    yield changed("nested container", "in an unknown one", VIT, lambda of: {"checkpoint": {"state_dict": of}})
    deep = refused(r"x\.pth holds no state dict .+")
    yield changed("nested container", "without end", VIT, lambda of: _nest(of, 9), deep)


def _nest(content: Any, times: int) -> Any:
    return {"model": _nest(content, times - 1)} if times else content


def _other(architecture: str) -> State:
    """Return the values of the set that is not the one of the case."""
    return trained(architecture, seed=1)


def _averaged(state: State) -> dict[str, Any]:
    """What torch's AveragedModel saves."""
    return {"n_averaged": torch.tensor(5), **prefixed("module.", state)}


Pair = Callable[[State, State], Any]
"""From the set with the case's values and another to what is saved."""

SEVERAL: dict[str, tuple[Pair, str]] = {
    "timm's raw": (lambda own, other: {"state_dict": own, "state_dict_ema": other, "optimizer": {}}, "raw"),
    "timm's EMA": (lambda own, other: {"state_dict": other, "state_dict_ema": own, "arch": "t"}, "ema"),
    "torchvision's raw": (lambda own, other: {"model": own, "model_ema": _averaged(other), "epoch": 3}, "raw"),
    "DINO's student": (lambda own, other: {"student": prefixed("module.", own), "teacher": other}, "student"),
    "DINO's teacher": (
        lambda own, other: {"student": other, "teacher": own, "dino_loss": {"center": torch.ones(1, 9)}},
        "teacher",
    ),
    "BasicSR's params_ema": (lambda own, other: {"params": other, "params_ema": own}, "params_ema"),
    "an unknown name beside": (lambda own, other: {"state_dict": other, "swa": own}, "swa"),
    "two unknown names": (lambda own, other: {"generator": own, "discriminator": other}, "generator"),
    "within a container": (lambda own, other: {"state_dict": {"model": other, "model_ema": own}}, "model_ema"),
    "one after another": (lambda own, other: {"student": {"net": other}, "ema": {"net": other, "ema": own}}, "ema.ema"),
}
UNDER_ITS_OWN_NAME: dict[str, Pair] = {
    "SWA beside": lambda own, other: {"model": own, "swa_model": _averaged(other), "epoch": 3},
    "a wrapped average beside": lambda own, other: {"state_dict": own, "averaged": prefixed("module.", other)},
    "a contained average beside": lambda own, other: {"model": own, "swa_model": {"state_dict": other, "n": 3}},
    "a shadow in the EMA": lambda own, other: {"model": own, "ema": {"decay": 0.999, "shadow": other}},
    "a best state beside": lambda own, other: {"state_dict": prefixed("model.", own), "best_state": other},
}
"""Second sets that are not called as others call theirs."""
CHOOSE = refused(r"x\.pth holds several sets of weights: .+", r"  mend:  choose one in \[weights\]: which = .+")


def _paired(pair: Pair, architecture: str, own: State) -> Any:
    return pair(own, _other(architecture))


def _several() -> Iterator[Case]:
    for number, (name, (pair, which)) in enumerate(SEVERAL.items()):
        architecture = SMALL[number % 7]
        change = partial(_paired, pair, architecture)
        yield changed("several sets, one chosen", name, architecture, change, options={"which": which})
        yield changed("several sets, none chosen", name, architecture, change, CHOOSE)
    for number, (name, pair) in enumerate(UNDER_ITS_OWN_NAME.items()):
        architecture = SMALL[number]
        yield changed("several sets, none chosen", name, architecture, partial(_paired, pair, architecture), CHOOSE)
    average = partial(_paired, lambda own, other: {"model": other, "model_ema": _averaged(own)}, RESNET)
    lines = refused(r"not in the model: n_averaged of the file")
    yield _chosen("torchvision's EMA", average, lines, which="ema")
    yield _chosen("torchvision's EMA, allowed", average, whole, which="ema", may_drop=["n_averaged"])
    lines = refused(r'which = "ema", but x\.pth holds only model')
    yield _chosen("what is not there", lambda own: {"model": own}, lines, which="ema")


def _chosen(name: str, change: Callable[[State], Any], truth: Truth, **options: Any) -> Case:
    absent = name == "what is not there"
    return changed("several sets, one chosen", name, RESNET, change, truth, options=options, by_option=absent)


def _moco(own: State, other: State, around: str = "module.") -> dict[str, Any]:
    queue = {f"{around}queue": torch.ones(8, 16), f"{around}queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return {**prefixed(f"{around}encoder_q.", own), **prefixed(f"{around}encoder_k.", other), **queue}


def _lit_ema(own: State, other: State) -> Any:
    flat = {f"model_ema.{name.replace('.', '')}": value for name, value in other.items()}
    return {"state_dict": {**prefixed("model.", own), **flat, "model_ema.decay": torch.tensor(0.999)}}


def _lucidrains(own: State, other: State) -> Any:
    counters = {"initted": torch.tensor([True]), "step": torch.tensor([9])}
    return {**prefixed("online_model.", other), **prefixed("ema_model.", own), **counters}


def _broken_twin(own: State, other: State) -> Any:
    other = {name: value * float("nan") if value.is_floating_point() else value for name, value in other.items()}
    return _moco(own, other)


SIDE_BY_SIDE: dict[str, tuple[Pair, str]] = {
    "MoCo's encoder_q": (lambda own, other: {"state_dict": _moco(own, other), "arch": "t"}, "encoder_q"),
    "MoCo's encoder_k": (lambda own, other: {"state_dict": _moco(other, own), "arch": "t"}, "encoder_k"),
    "MoCo without wrappers": (lambda own, other: _moco(own, other, ""), "encoder_q"),
    "MoCo in Lightning": (lambda own, other: {"state_dict": _moco(own, other, "model.")}, "encoder_q"),
    "MoCo v3": (
        lambda own, other: {**prefixed("base_encoder.", own), **prefixed("momentum_encoder.", other)},
        "base_encoder",
    ),
    "student and teacher": (lambda own, other: {**prefixed("student.", other), **prefixed("teacher.", own)}, "teacher"),
    "BYOL": (lambda own, other: {**prefixed("online.", own), **prefixed("target.", other)}, "online"),
    "model and model_ema": (lambda own, other: {**prefixed("model.", other), **prefixed("model_ema.", own)}, "ema"),
    "NaN in the other": (_broken_twin, "encoder_q"),
}


def _branches() -> Iterator[Case]:
    for number, (name, (pair, which)) in enumerate(SIDE_BY_SIDE.items()):
        architecture = SMALL[number % 7]
        change = partial(_paired, pair, architecture)
        yield changed("branches, one chosen", name, architecture, change, options={"which": which})
        if "NaN" not in name:
            yield changed("branches, none chosen", name, architecture, change, CHOOSE)
    yield from _odd_branches()


def _odd_branches() -> Iterator[Case]:
    flat = partial(_paired, _lit_ema, RESNET)
    own_names = partial(_paired, _lucidrains, RESNET)
    left = refused(r"not in the model: model_ema\..+ of the file")
    yield _branched("LitEma", flat, left)
    yield _branched("LitEma, allowed", flat, whole, may_drop=["model_ema.*"])
    yield _branched("ema_pytorch", own_names, refused(r"not in the model: .+ of the file"))
    allowed = ["online_model.*", "initted", "step"]
    yield _branched("ema_pytorch, allowed", own_names, whole, may_drop=allowed)
    dino = {"which": "teacher", "head": "reset", "classifier": "head"}
    yield changed("branches, one chosen", "DINO with a projector", VIT, _dino, _headless, options=dino)


def _branched(name: str, change: Callable[[State], Any], truth: Truth | Refused, **options: Any) -> Case:
    kind = "branches, one chosen" if options else "branches, none chosen"
    return changed(kind, name, RESNET, change, truth, options=options)


def _dino(own: State) -> Any:
    projector = {"head.mlp.0.weight": torch.ones(8, 64).cumsum(0), "head.last_layer.weight_v": torch.ones(9, 8)}
    backbone = {name: value for name, value in own.items() if not name.startswith("head.")}
    teacher = {**prefixed("backbone.", backbone), **projector}
    other = {name: value for name, value in _other(VIT).items() if not name.startswith("head.")}
    student = prefixed("module.", {**prefixed("backbone.", other), **projector})
    return {"student": student, "teacher": teacher, "optimizer": optimiser(own), "epoch": 3}


def _headless(file: State, first: State) -> State:
    return {name: first[name] if name.startswith("head.") else value for name, value in file.items()}
