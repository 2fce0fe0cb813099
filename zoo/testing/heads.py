"""Checks of heads."""

import copy
import pickle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, one_hot

from zoo.registry.contracts import FeatureSpec, TargetSpec
from zoo.registry.parts import HeadPart
from zoo.testing.kit import NotTriedError, Trial, check, expect
from zoo.testing.network import alike, apart, changed, draw, make, perturbed, require_type, snapshot

CHANNELS = 8
MANY = 11
"""Classes: more than the few that a head may have been written for."""
SPECS = (FeatureSpec(CHANNELS), FeatureSpec(CHANNELS, pooled=False, stride=8))


def build(trial: Trial, spec: FeatureSpec = SPECS[0], classes: int = 3, seed: int = 0) -> Any:
    """Return the head for these features and so many classes, initialised from a seed."""
    target = TargetSpec(tuple(f"class {index}" for index in range(classes)))
    built = make(lambda: trial.build(spec, target), seed)
    require_type(built, nn.Module, trial)
    return built


def features(spec: FeatureSpec = SPECS[0], count: int = 4, seed: int = 1) -> Tensor:
    """Return features of a spec: (B, C) or (B, C, 4, 4)."""
    return draw(count, spec.channels, *(() if spec.pooled else (4, 4)), seed=seed)


def targets(count: int = 4, classes: int = 3) -> Tensor:
    """Return class indices (B,)."""
    return torch.arange(count) % classes


@check("a recipe may put any head on any backbone, for any number of classes")
def shapes(trial: Trial) -> None:
    """Logits (B, K) for pooled and unpooled features, 2 to 11 classes, 1 to 5 images."""
    for spec in SPECS:
        for classes in (2, 3, 11):
            head = build(trial, spec, classes).eval()
            for count in (1, 2, 5):
                found = tuple(head(features(spec, count)).shape)
                expect(found == (count, classes), f"logits {(count, classes)} for {spec}", found)


@check("batches are cut over devices and micro-batches, and zoo weighs their losses by image")
def loss_unreduced(trial: Trial) -> None:
    """A loss (B,), one finite value for each image that does not depend on the others."""
    for classes in (3, 11):
        head, target = build(trial, classes=classes).eval(), (targets(4, classes) + classes - 3) % classes
        logits = head(features())
        loss = head.loss(logits, target)
        expect(tuple(loss.shape) == (4,), "a loss of shape (4,) for 4 images", tuple(loss.shape))
        expect(bool(loss.isfinite().all()), "finite losses", loss.tolist())
        alone = torch.cat([head.loss(logits[row : row + 1], target[row : row + 1]) for row in range(4)])
        expect(alike(alone, loss), "the same loss alone and in a batch", apart(alone, loss))


@check("mixup and CutMix give class probabilities in place of indices")
def loss_probabilities(trial: Trial) -> None:
    """The same loss for an index and for all probability on it; another for most of it."""
    head = build(trial).eval()
    logits, target = head(features()), targets()
    whole = one_hot(target, 3).float()
    found, expected = head.loss(logits, whole), head.loss(logits, target)
    expect(alike(found, expected), "the loss of the index for a probability of 1", apart(found, expected))
    mixed = head.loss(logits, 0.7 * whole + 0.3 * whole.roll(1, dims=1))
    other = mixed.shape == found.shape and not alike(mixed, found)
    expect(other, "another loss for 0.7 of one class and 0.3 of another", mixed.tolist())


@check("a loss that does not prefer the right class trains to nothing")
def loss_direction(trial: Trial) -> None:
    """A smaller loss for logits that point to the right class, and gradients that lead there."""
    head, every = build(trial, classes=MANY), torch.arange(MANY)
    right = 4 * one_hot(every, MANY).float()
    better, worse = head.loss(right, every), head.loss(-right, every)
    expect(bool((better < worse).all()), "a smaller loss for the right class", f"{better.tolist()}, {worse.tolist()}")
    logits = torch.zeros(MANY, MANY, requires_grad=True)
    head.loss(logits, every).sum().backward()
    gradient = logits.grad if logits.grad is not None else torch.zeros(MANY, MANY)
    own = gradient.diagonal()
    expect(bool((own < 0).all()), "gradients that raise the right class's logit", gradient.tolist())


@check("a parameter without a gradient is never trained; without one for the features the backbone is not")
def gradients(trial: Trial) -> None:
    """Every parameter and the features get a finite gradient that is not zero."""
    for spec in SPECS:
        head = build(trial, spec).train()
        perturbed(head)
        still = [name for name, parameter in head.named_parameters() if not parameter.requires_grad]
        expect(not still, "requires_grad on every parameter: freezing is the recipe's", still[:3])
        given = features(spec, 16).requires_grad_()
        head.loss(head(given), targets(16)).sum().backward()
        found = {name: parameter.grad for name, parameter in head.named_parameters()} | {"the features": given.grad}
        for name, gradient in found.items():
            good = gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any())
            expect(good, f"a finite gradient of {name}, not zero", "none" if gradient is None else "zero or not finite")


@check("in bf16 and fp16 logits arrive in half precision")
def half_precision(trial: Trial) -> None:
    """A finite loss in at least single precision for bf16 and fp16 logits, large ones too."""
    head = build(trial)
    for dtype in (torch.bfloat16, torch.float16):
        for scale in (1, 30):
            logits = (scale * draw(4, 3, seed=2)).to(dtype)
            exact, found = head.loss(logits.float(), targets()), head.loss(logits, targets())
            good = bool(found.isfinite().all()) and alike(found.float(), exact, 1e-2)
            expect(good, f"about the loss of single precision for {dtype} logits", found.tolist())


@check("features are kept for later epochs, and targets serve several heads")
def inputs_untouched(trial: Trial) -> None:
    """Features, logits and targets left as they were."""
    head = build(trial).train()
    given, target = features(), one_hot(targets(), 3).float()
    kept, wanted = given.clone(), target.clone()
    logits = head(given)
    before = logits.clone()
    head.loss(logits, target)
    same = torch.equal(given, kept) and torch.equal(target, wanted) and torch.equal(logits, before)
    expect(same, "everything left as it was", "it was changed in place")


@check("`best_by` chooses a checkpoint by these names and directions")
def metrics_declared(trial: Trial) -> None:
    """Metrics under the names that the part declares, each with a direction, fresh at every call."""
    head, declared = build(trial), _declared(trial)
    found, again = head.metrics(), head.metrics()
    expect(set(found) == set(declared), f"metrics {sorted(declared)}", sorted(found))
    odd = {name: direction for name, direction in declared.items() if direction not in ("max", "min")}
    expect(not odd, 'directions "max" and "min"', odd)
    shared = [name for name in found if found[name] is again[name]]
    expect(not shared, "fresh metrics at every call", f"the same objects: {shared}")


def _declared(trial: Trial) -> dict[str, str]:
    return dict(trial.part.metrics) if isinstance(trial.part, HeadPart) else {}


def _value(head: Any, name: str, *batches: tuple[Tensor, Tensor]) -> float:
    metric = head.metrics()[name]
    for logits, target in batches:
        metric.update(logits, target)
    return float(metric.compute())


@check("the checkpoint that is called best must be the best")
def metrics_right(trial: Trial) -> None:
    """Better values for right predictions than for wrong ones, the same in one batch or several; accuracy is exact."""
    head, target = build(trial, classes=MANY), torch.tensor([0, 0, 0, 1, 9, 9])
    if not _declared(trial):
        raise NotTriedError("the part declares no metrics")
    right = 5 * one_hot(target, MANY).float() + 0.1 * draw(6, MANY, seed=5)
    partly = right.clone()
    partly[:2] = right[:2].roll(1, dims=1)
    for name, direction in _declared(trial).items():
        best, middle, worst = (_value(head, name, (logits, target)) for logits in (right, partly, -right))
        sign = 1 if direction == "max" else -1
        order = sign * best >= sign * middle >= sign * worst and best != worst
        expect(
            order, f"{name} ({direction}) of right, partly right and wrong logits in that order", (best, middle, worst)
        )
        cut = _value(head, name, (partly[:4], target[:4]), (partly[4:], target[4:]))
        expect(abs(cut - middle) < 1e-5, f"{name} {middle:.4f} from two batches too", f"{cut:.4f}")
        if name == "accuracy":
            expect(abs(middle - 4 / 6) < 1e-5, "accuracy 0.6667 with 4 of 6 right", f"{middle:.4f}")


@check("exported weights must say what the trained head says")
def native_names(trial: Trial) -> None:
    """The tensors under native names are a linear layer with the head's own logits."""
    if not build(trial).native_names():
        raise NotTriedError("the head has no native form")
    for spec in SPECS:
        _require_linear(trial, spec)


def _require_linear(trial: Trial, spec: FeatureSpec) -> None:
    head = build(trial, spec).eval()
    perturbed(head)
    names, given = dict(head.native_names()), features(spec)
    state = head.state_dict()
    unknown = [name for name in names if name not in state]
    expect(not unknown, "names of the head's own tensors", unknown)
    native = {names[name]: state[name] for name in names}
    expect(set(native) == {"weight", "bias"}, "the native names weight and bias", sorted(native))
    with torch.no_grad():
        pooled = given if spec.pooled else given.mean((2, 3))
        found, expected = linear(pooled, native["weight"], native["bias"]), head(given)
    expect(alike(found, expected), "the head's own logits from its native tensors", apart(found, expected))


@check("`zoo plan` builds the network on the meta device, without memory")
def meta_device(trial: Trial) -> None:
    """On the meta device the same names and shapes, all without memory."""
    real = {name: tensor.shape for name, tensor in build(trial).state_dict().items()}
    with torch.device("meta"):
        state = build(trial).state_dict()
    expect({name: tensor.shape for name, tensor in state.items()} == real, f"tensors {list(real)}", list(state))
    solid = [name for name, tensor in state.items() if not tensor.is_meta]
    expect(not solid, "every tensor on the meta device", f"{', '.join(solid[:3])} elsewhere")


@check("a run is repeated by its seed, and another seed must be another start")
def seed(trial: Trial) -> None:
    """The same weights for the same seed, others for another, and torch's generator is not seeded anew."""
    once, again, other = (snapshot(build(trial, seed=seed)) for seed in (5, 5, 6))
    expect(not changed(once, again), "the same weights for the same seed", f"other: {changed(once, again)[:3]}")
    trained = bool(list(build(trial).parameters()))
    expect(not trained or bool(changed(once, other)), "other weights for another seed", "the same weights")


@check("what is validated is what is exported: eval mode has no chance and no memory")
def eval_mode(trial: Trial) -> None:
    """In eval mode the same features give the same logits again, alone or in a batch, and no buffer changes."""
    head = build(trial).eval()
    before, given = snapshot(head), features()
    with torch.no_grad():
        once, again = head(given), head(given)
        alone = torch.cat([head(row[None]) for row in given])
    expect(torch.equal(once, again), "the same logits twice", apart(again, once))
    expect(alike(alone, once), "the same logits alone and in a batch", apart(alone, once))
    moved = changed(before, head.state_dict())
    expect(not moved, "no tensor changed by a forward in eval mode", moved)


@check("the moving average is a deep copy, and processes that are spawned get a pickled one")
def copies(trial: Trial) -> None:
    """A deep copy and a pickled copy give the same logits and share nothing."""
    head = build(trial).eval()
    with torch.no_grad():
        expected = head(features())
        for name, copied in (("deep", copy.deepcopy(head)), ("pickled", pickle.loads(pickle.dumps(head)))):
            expect(torch.equal(copied(features()), expected), f"the same logits from a {name} copy", "other logits")
            perturbed(copied)
        expect(torch.equal(head(features()), expected), "the head left alone by its copies", "they share tensors")


CHECKS = (
    *(shapes, loss_unreduced, loss_probabilities, loss_direction, gradients, half_precision, inputs_untouched),
    *(metrics_declared, metrics_right, native_names, meta_device, seed, eval_mode, copies),
)
