"""Files whose names mean nothing to the model, loaded in their order: right, and wrong in ways that names can tell.

Out of scope, since nothing in the file tells it: layers of one shape whose values, not names, changed places.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from tests.weights.corpus.case import Case, Change, Truth, changed, prefixed, refused, short, whole
from tests.weights.corpus.models import State

RESNET, VIT, MOBILENET = "timm/test_resnet", "timm/test_vit", "timm/mobilenetv3_small_050"
ARCHITECTURES = (RESNET, VIT, MOBILENET, "timm/test_convnext", "torchvision/densenet, cut", "torchvision/swin, cut")
COUNTER = "num_batches_tracked"
KERAS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
TERSE = {"weight": "s", "bias": "t", "running_mean": "m", "running_var": "v"}
NO_ORDER = refused(r"the tensors cannot be aligned by order: .+", r'  where: align = "order"')
Layer = dict[str, Any]
Layers = dict[str, Layer]
"""The tensors of a file by module and by last name."""


def cases() -> Iterator[Case]:
    yield from _right()
    yield from _shuffled()
    yield from _counted()
    yield from _worded()


def _case(name: str, architecture: str, change: Change, truth: Truth = whole, **more: Any) -> Case:
    return changed("order", name, architecture, change, truth, {"align": "order"}, **more)


def layers(state: Mapping[str, Any]) -> Layers:
    """Return a state dict by module, in its order."""
    found: Layers = {}
    for name, value in state.items():
        path, _, last = name.rpartition(".")
        found.setdefault(path, {})[last] = value
    return found


def flat(modules: Mapping[str, Layer]) -> dict[str, Any]:
    """Return the state dict of modules."""
    return {f"{path}.{last}": value for path, own in modules.items() for last, value in own.items()}


def numbered(state: State, step: int = 1, form: str = "layer_{}") -> Layers:
    """Return the modules under numbers instead of names."""
    return {form.format(step * number): own for number, own in enumerate(layers(state).values())}


def _respelt(spelling: Mapping[str, str], modules: Layers) -> Layers:
    """Return the modules with other names for the tensors of norms, and "w" and "b" for those of other layers."""
    return {
        path: {
            (spelling if "running_var" in own else {"weight": "w", "bias": "b"}).get(last, last): own[last]
            for last in own
        }
        for path, own in modules.items()
    }


def _right() -> Iterator[Case]:
    for architecture in ARCHITECTURES:
        yield _case(f"numbered, {short(architecture)}", architecture, lambda state: flat(numbered(state)))
    for architecture in ARCHITECTURES[:3]:
        yield _case(f"its own names, {short(architecture)}", architecture, dict)
    yield _case("numbers with gaps", RESNET, lambda state: flat(numbered(state, 3, "features.{}")))
    yield _case("other last names", RESNET, lambda state: flat(_respelt(KERAS, numbered(state))))
    yield _case("wrapped and contained", RESNET, lambda state: {"model": prefixed("module.", flat(numbered(state)))})
    yield _case("without counters", RESNET, _without_counters, _old)


def _without_counters(state: State) -> Any:
    return {name: value for name, value in flat(numbered(state)).items() if not name.endswith(COUNTER)}


def _old(file: State, first: State) -> State:
    return {name: first[name] if name.endswith(COUNTER) else value for name, value in file.items()}


def _shapes(own: Layer) -> list[tuple[int, ...]]:
    return [tuple(value.shape) for value in own.values()]


def swap(modules: Layers, which: Callable[[Layer], bool]) -> Layers:
    """Return the modules with the first two of one shape, of those that `which` allows, in each other's places."""
    paths = list(modules)
    one, two = next(
        (first, second)
        for place, first in enumerate(paths)
        for second in paths[place + 1 :]
        if which(modules[first]) and _shapes(modules[first]) == _shapes(modules[second])
    )
    order = [{one: two, two: one}.get(path, path) for path in paths]
    return {path: modules[path] for path in order}


def _is_norm(own: Layer) -> bool:
    return "running_var" in own or (len(own) == 2 and all(value.dim() == 1 for value in own.values()))


def _turned(turned: Mapping[str, str], modules: Layers) -> Layers:
    """Return the modules with tensors of each norm in each other's places."""
    return {
        path: {turned.get(last, last): own[turned.get(last, last)] for last in own} if _is_norm(own) else own
        for path, own in modules.items()
    }


def _swapped(which: Callable[[Layer], bool], state: State) -> Any:
    return flat(swap(numbered(state), which))


def _shuffled() -> Iterator[Case]:
    for architecture in ARCHITECTURES:
        other = partial(_swapped, lambda own: not _is_norm(own) and len(own) < 5)
        yield _case(f"swapped layers, {short(architecture)}", architecture, other, NO_ORDER)
    for architecture in ARCHITECTURES:
        yield _case(f"swapped norms, {short(architecture)}", architecture, partial(_swapped, _is_norm), NO_ORDER)
    scales, moments = (
        {"weight": "bias", "bias": "weight"},
        {"running_mean": "running_var", "running_var": "running_mean"},
    )
    for name, turned in (("scale and offset", scales), ("mean and variance", moments)):
        yield _case(f"{name} swapped", RESNET, partial(_turn, turned, {}), NO_ORDER)
        yield _case(f"{name} swapped, other names", RESNET, partial(_turn, turned, KERAS), NO_ORDER)
        yield _case(f"{name} swapped, terse names", RESNET, partial(_turn, turned, TERSE), NO_ORDER)
    yield _case("scale and offset swapped, vit", VIT, partial(_turn, scales, {}), NO_ORDER)
    yield _case("one norm's swapped", MOBILENET, _turn_one, NO_ORDER)


def _turn(turned: Mapping[str, str], spelling: Mapping[str, str], state: State) -> Any:
    modules = _turned(turned, numbered(state))
    return flat(_respelt(spelling, modules) if spelling else modules)


def _turn_one(state: State) -> Any:
    modules = numbered(state)
    path = next(path for path, own in list(modules.items())[9:] if _is_norm(own))
    return flat({**modules, path: dict(reversed(modules[path].items()))})


def _by_name(state: State) -> Any:
    """The order of HDF5: layer_10 before layer_2."""
    return dict(sorted(flat(numbered(state)).items()))


def _without_one(state: State) -> Any:
    names = list(state)
    return flat(numbered({name: state[name] for name in names if name != names[len(names) // 2]}))


def _with_one_more(state: State) -> Any:
    return {**flat(numbered(state)), "layer_999.weight": torch.ones(3)}


def _one_for_another(state: State) -> Any:
    """As many tensors as the model has: one is missing and another is there."""
    return _with_one_more(dict(list(state.items())[1:]))


def _counted() -> Iterator[Case]:
    count = r"the tensors cannot be aligned by order: the file has \d+ tensors and the model \d+"
    for architecture in (RESNET, VIT):
        yield _case(f"one missing, {short(architecture)}", architecture, _without_one, NO_ORDER)
        yield _case(f"one more, {short(architecture)}", architecture, _with_one_more, refused(count))
        yield _case(f"one for another, {short(architecture)}", architecture, _one_for_another, NO_ORDER)
        yield _case(f"sorted by name, {short(architecture)}", architecture, _by_name, NO_ORDER)
        yield _case(f"backwards, {short(architecture)}", architecture, _backwards, NO_ORDER)
    yield _case("another variant", MOBILENET, dict, NO_ORDER, source="timm/mobilenetv3_small_075")


def _backwards(state: State) -> Any:
    return dict(reversed(flat(numbered(state)).items()))


def _words(order: tuple[str, ...], words: tuple[str, ...], state: State) -> Any:
    """Return units of one shape in an order, each under a word instead of its name."""
    names = {
        name: ".".join([words[order.index(name.split(".")[0])], *name.split(".")[1:]])
        for name in sorted(state, key=lambda name: order.index(name.split(".")[0]))
    }
    return {there: state[here] for here, there in names.items()}


def _keras(state: State) -> Any:
    """Dense kernels as Keras and Flax keep them: (in, out), which is square here."""
    # No more than two dimensions: `permute` turns a matrix round and leaves a vector.
    return {
        name.replace("weight", "kernel"): value.permute(*reversed(range(value.dim()))).contiguous()
        for name, value in state.items()
    }


def _worded() -> Iterator[Case]:
    own = ("entry", "body", "final")
    turned = ("body", "entry", "final")
    words, squares = "own, words", "own, squares"
    yield _case("words in order", words, partial(_words, own, own))
    yield _case("its own words in another order", words, partial(_words, turned, turned), NO_ORDER)
    yield _case("other words in another order", words, partial(_words, turned, ("torso", "stem", "top")), NO_ORDER)
    yield _case("letters in another order", squares, partial(_words, ("1", "0", "2"), ("b", "a", "c")), NO_ORDER)
    yield _case("numbers in another order", squares, partial(_words, ("1", "0", "2"), ("1", "0", "2")), NO_ORDER)
    yield _case("transposed kernels", squares, _keras, NO_ORDER)
