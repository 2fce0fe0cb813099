"""Checks of backbones."""

import copy
import pickle
from math import ceil, floor
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.freeze.still import fix_batchnorm
from zoo.registry.contracts import Backbone, FeatureSpec, InputSpec, Native
from zoo.testing.kit import NotTriedError, Trial, check, expect
from zoo.testing.network import alike, apart, changed, draw, make, perturbed, require_input, require_type, snapshot

Size = tuple[int, int]


def build(trial: Trial, size: Size | None = None, seed: int = 0) -> Backbone:
    """Return the backbone for images of `size` (its own when None), initialised from a seed."""
    built: Backbone = make(lambda: trial.build(size), seed)
    require_type(built, Backbone, trial)
    return built


def images(backbone: Backbone, count: int = 2, seed: int = 1) -> Tensor:
    """Return normalised images (B, 3, H, W) of the backbone's own size."""
    return draw(count, 3, *backbone.input.size, seed=seed)


@check("heads, freeze policies and exporters read these fields and nothing else")
def contract(trial: Trial) -> None:
    """A Backbone with a module, a FeatureSpec, stages, a Native and an InputSpec that make sense."""
    built = build(trial)
    fields = {"module": nn.Module, "spec": FeatureSpec, "stages": tuple, "native": Native, "input": InputSpec}
    for name, wanted in fields.items():
        value = getattr(built, name)
        expect(isinstance(value, wanted), f"{name} is a {wanted.__name__}", type(value).__name__)
    expect(built.spec.channels >= 1, "at least one feature channel", built.spec)
    expect(built.spec.pooled == (built.spec.stride is None), "a stride where features are not pooled", built.spec)
    require_input(built.input)


def _require_shape(built: Backbone, features: Tensor, given: Tensor) -> None:
    spec = built.spec
    sides = () if spec.pooled else tuple(side / (spec.stride or 1) for side in given.shape[2:])
    wanted = (len(given), spec.channels, *map(floor, sides))
    upwards = (len(given), spec.channels, *map(ceil, sides))  # where a stride does not divide, networks differ
    right = tuple(features.shape) in (wanted, upwards)
    expect(right, f"features {wanted} for images {tuple(given.shape)}", tuple(features.shape))


@check("a head is built for the features that the spec promises")
def shapes(trial: Trial) -> None:
    """Features as the spec says, for batches of 1, 2 and 5."""
    built = build(trial)
    for count in (1, 2, 5):
        given = images(built, count)
        with torch.no_grad():
            _require_shape(built, built.module.eval()(given), given)


@check("`image_size` in a recipe is what the network is built for")
def image_sizes(trial: Trial) -> None:
    """Built for other sizes too, oblong ones included, or refused with a ZooError."""
    height, width = build(trial).input.size
    for size in ((max(32, height // 2), max(32, width // 2)), (height, 2 * width)):
        try:
            built = build(trial, size)
        except ZooError:
            continue
        given = draw(2, 3, *size)
        with torch.no_grad():
            _require_shape(built, built.module.eval()(given), given)


@check("an image's prediction may not depend on which others lie in its batch")
def batch_independence(trial: Trial) -> None:
    """In eval mode each image has the same features alone and in a batch."""
    built = build(trial)
    given = images(built, 3)
    with torch.no_grad():
        together = perturbed(built.module).eval()(given)
        alone = torch.cat([built.module(image[None]) for image in given])
    expect(alike(alone, together), "the same features alone and in a batch", apart(alone, together))


@check("a network that ignores a channel or its input looks as if it trained")
def channels(trial: Trial) -> None:
    """Each of the three channels of an image makes a difference, and images are left as they were."""
    built = build(trial)
    module, given = perturbed(built.module).eval(), images(built)
    kept = given.clone()
    with torch.no_grad():
        features = module(given)
        expect(torch.equal(given, kept), "images left as they were", "they were changed in place")
        for channel in range(3):
            other = given.clone()
            other[:, channel] += draw(*other[:, channel].shape, seed=3)
            same = torch.equal(module(other), features)
            expect(not same, f"other features for another channel {channel}", "the same features")


@check("`zoo plan` and `zoo check` build the network on the meta device, without memory")
def meta_device(trial: Trial) -> None:
    """On the meta device the same names and shapes, all without memory."""
    real = build(trial).module.state_dict()
    with torch.device("meta"):
        module = build(trial).module
    state = module.state_dict()
    expect(list(state) == list(real), "the same names as on the CPU", sorted(set(state) ^ set(real)))
    solid = [name for name, tensor in state.items() if not tensor.is_meta]
    expect(not solid, "every tensor on the meta device", f"{', '.join(solid[:3])} elsewhere")
    other = [name for name in state if state[name].shape != real[name].shape]
    expect(not other, "the same shapes as on the CPU", other)


@check("a parameter without a gradient is never trained, and nobody is told")
def gradients(trial: Trial) -> None:
    """Every parameter asks for a gradient, and gets one that is finite and not zero."""
    built = build(trial)
    still = [name for name, parameter in built.module.named_parameters() if not parameter.requires_grad]
    expect(not still, "requires_grad on every parameter: freezing is the recipe's", still[:3])
    features = perturbed(built.module).eval()(images(built))
    (features * draw(*features.shape, seed=4)).sum().backward()
    for name, parameter in built.module.named_parameters():
        gradient = parameter.grad
        good = gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any())
        expect(good, f"a finite gradient of {name}, not zero", "none" if gradient is None else "zero or not finite")


@check("a parameter in no stage, or in two, is frozen by no rule, or by contradicting ones")
def stages(trial: Trial) -> None:
    """Each parameter lies below exactly one stage, and each stage has some."""
    built = build(trial)
    names = [name for name, _ in built.module.named_parameters()]
    for name in names:
        found = [stage for stage in built.stages if name == stage or name.startswith(f"{stage}.")]
        expect(len(found) == 1, f"{name} in one stage", f"in {found or 'none'} of {built.stages}")
    for stage in built.stages:
        used = any(name == stage or name.startswith(f"{stage}.") for name in names)
        expect(used, f"parameters in the stage {stage!r}", "none")


@check("gradual thawing and layer-wise rates go by the order of stages")
def stage_order(trial: Trial) -> None:
    """Stages in the order in which they compute, input side first."""
    built, called = build(trial), []
    modules = dict(built.module.named_modules())
    hooks = [
        modules[stage].register_forward_pre_hook(lambda *_, stage=stage: called.append(stage))
        for stage in built.stages
        if stage in modules
    ]
    with torch.no_grad():
        built.module.eval()(images(built))
    for hook in hooks:
        hook.remove()
    first = list(dict.fromkeys(called))
    wanted = [stage for stage in built.stages if stage in first]
    expect(first == wanted, f"stages computed in the order {wanted}", first)


@check("weights are looked up under native names, and exported under them")
def native_names(trial: Trial) -> None:
    """The module has the library's own names and shapes, all but the classifier's."""
    built = build(trial)
    own = {name: tensor.shape for name, tensor in built.module.state_dict().items()}
    with torch.device("meta"):
        native = {name: tensor.shape for name, tensor in built.native.build(len("abc")).state_dict().items()}
    if built.native.classifier is not None:
        rows = [native.pop(f"{built.native.classifier}.{last}", None) for last in ("weight", "bias")]
        wanted = [torch.Size((3, built.spec.channels)), torch.Size((3,))]
        shown = [row and tuple(row) for row in rows]
        expect(rows == wanted, f"{built.native.classifier}: weight {(3, built.spec.channels)}, bias (3,)", shown)
        expect(own == native, f"the tensors of {built.native.identity}", f"other: {_odd(own, native)}")
    else:
        extra = _odd(own, {name: shape for name, shape in native.items() if name in own})
        expect(not extra, f"only tensors of {built.native.identity}", f"other: {extra}")


def _odd(own: dict[str, Any], native: dict[str, Any]) -> list[str]:
    return [name for name in {**own, **native} if own.get(name) != native.get(name)][:5]


@check("an exported model must say what the trained one says, in the library's own code")
def native_classifier(trial: Trial) -> None:
    """Features through the native classifier's layer are the library's own logits."""
    built = build(trial)
    name = built.native.classifier
    if name is None:
        raise NotTriedError("the architecture does not end in one linear layer")
    native = perturbed(make(lambda: built.native.build(3))).eval()
    state = native.state_dict()
    given = images(built)
    weight, bias = state.pop(f"{name}.weight"), state.pop(f"{name}.bias")
    built.module.load_state_dict(state, strict=True)
    with torch.no_grad():
        features = built.module.eval()(given)
        pooled = features if built.spec.pooled else features.mean((2, 3))
        found, expected = nn.functional.linear(pooled, weight, bias), native(given)
    expect(alike(found, expected), "the library's own logits", apart(found, expected))


@check("whoever deploys the model builds it by this line")
def native_code(trial: Trial) -> None:
    """The code in `native` builds the library's own model."""
    native = build(trial).native
    library = native.library.partition(".")[0]
    for classes in (3, 5):
        names: dict[str, Any] = {}
        with torch.device("meta"):
            exec(f"import {library}\nimport {native.library}\nnetwork = {native.call(classes)}", names)
            wanted, found = (_shapes(module) for module in (native.build(classes), names["network"]))
        other = _odd(found, wanted)
        expect(not other, f"`{native.call(classes)}` with the tensors of `native.build({classes})`", f"other: {other}")


def _shapes(module: nn.Module) -> dict[str, Any]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


@check("checkpoints hold the state dict and nothing else")
def state_round_trip(trial: Trial) -> None:
    """A state dict of one build, loaded into another, gives the same features."""
    from safetensors.torch import load, save

    first, second = build(trial), build(trial, seed=1)
    perturbed(first.module)
    state = load(save({name: tensor.clone() for name, tensor in first.module.state_dict().items()}))
    second.module.load_state_dict(state, strict=True)
    given = images(first)
    with torch.no_grad():
        found, expected = second.module.eval()(given), first.module.eval()(given)
    expect(torch.equal(found, expected), "the same features", apart(found, expected))


@check("a run is repeated by its seed, and another seed must be another start")
def seed(trial: Trial) -> None:
    """The same weights for the same seed, others for another, and torch's generator is not seeded anew."""
    once, again, other = (snapshot(build(trial, seed=seed).module) for seed in (5, 5, 6))
    expect(not changed(once, again), "the same weights for the same seed", f"other: {changed(once, again)[:3]}")
    expect(bool(changed(once, other)), "other weights for another seed", "the same weights")


@check("what is validated is what is exported: eval mode has no chance and no memory")
def eval_mode(trial: Trial) -> None:
    """In eval mode the same images give the same features again, and no buffer changes."""
    built = build(trial)
    module, given = built.module.eval(), images(built)
    before = snapshot(module)
    with torch.no_grad():
        expect(torch.equal(module(given), module(given)), "the same features twice", "other features")
    moved = changed(before, module.state_dict())
    expect(not moved, "no tensor changed by a forward in eval mode", moved[:3])


@check("frozen layers drift where batch norm goes on counting")
def fixed_batchnorm(trial: Trial) -> None:
    """Batch norms that are fixed stay as they are under train()."""
    built = build(trial)
    module = built.module.train()
    fix_batchnorm(module)
    module.train()
    before = snapshot(module)
    with torch.no_grad():
        module(images(built, 4))
    moved = changed(before, module.state_dict())
    expect(not moved, "no statistics changed", moved[:3])


@check("a run takes the fastest memory format and precision, and trains in train mode")
def training(trial: Trial) -> None:
    """In train mode finite features of the same shape, with gradients, in either memory format and in bf16."""
    built = build(trial)
    given = images(built, 4)
    for layout in (torch.contiguous_format, torch.channels_last):
        module = built.module.to(memory_format=layout).train()
        asleep = [name for name, below in module.named_modules() if not below.training]
        expect(not asleep, "every module in train mode after train()", asleep[:3])
        for half in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                features = module(given.to(memory_format=layout))
            _require_shape(built, features, given)
            good = bool(features.isfinite().all()) and features.requires_grad
            words = f"finite features with a gradient ({layout}, {'bf16' if half else 'fp32'})"
            expect(good, words, "not finite, or without a gradient")


@check("the moving average is a deep copy, and processes that are spawned get a pickled one")
def copies(trial: Trial) -> None:
    """A deep copy and a pickled copy give the same features and share nothing."""
    built = build(trial)
    module, given = built.module.eval(), images(built)
    with torch.no_grad():
        expected = module(given)
        for name, copied in (("deep", copy.deepcopy(module)), ("pickled", pickle.loads(pickle.dumps(module)))):
            expect(torch.equal(copied(given), expected), f"the same features from a {name} copy", "other features")
            perturbed(copied)
        expect(torch.equal(module(given), expected), "the module left alone by its copies", "they share tensors")


@check("layer-wise rates need the depth of every parameter")
def depths(trial: Trial) -> None:
    """Depths for every parameter, counted from 0, the heads last; or None."""
    built = build(trial)
    if built.depths is None:
        raise NotTriedError("it declares no depths: stages count as layers")
    names = {name for name, _ in built.module.named_parameters()}
    expect(set(built.depths.of) == names, "a depth for every parameter", sorted(set(built.depths.of) ^ names)[:5])
    deepest = max(built.depths.of.values())
    right = min(built.depths.of.values()) == 0 and built.depths.heads >= deepest
    expect(right, "depths from 0 to that of the heads", f"{min(built.depths.of.values())} to {deepest}")
    first = [
        min(depth for name, depth in built.depths.of.items() if name == stage or name.startswith(f"{stage}."))
        for stage in built.stages
    ]
    expect(first == sorted(first), "depths that grow from stage to stage", dict(zip(built.stages, first, strict=True)))


CHECKS = (
    *(contract, shapes, image_sizes, batch_independence, channels, meta_device, gradients, stages, stage_order),
    *(native_names, native_classifier, native_code, state_round_trip, seed, eval_mode, training, fixed_batchnorm),
    *(copies, depths),
)
