"""The memory that a training run takes, from one step without data or weights.

The step runs on fake tensors, which have shapes, types and lifetimes as those on a CPU and nothing behind them: the
choice of kernels, what autocast casts and what autograd keeps are torch's own decisions, not a table of layers here.
Every storage is counted when an operation makes it and given back when its last reference goes.

Not counted: what a kernel uses inside (copies in oneDNN's or cuDNN's own layout), what the allocator keeps of freed
blocks (with glibc 10 to 20 % more, see `benchmarks/memory.py`), the libraries, the loader's waiting batches, and the
moving average (once more the weights).
"""

import copy
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode  # no public name, yet the one that torch's manual gives
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode  # the same

from zoo.devices.single import DTYPES
from zoo.registry.contracts import DeviceSettings
from zoo.train.model import Model

STATE = 2
"""Values of state a parameter for an optimiser that cannot step without values; most keep two or fewer."""


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a step, from the second step on (in the first, the optimiser has no state yet).

    `activations` is what the peak needs beyond the other three. Where the peak comes before all gradients are there,
    their room is in use by activations already, and is counted under `gradients`.
    """

    weights: int
    """Parameters and buffers."""
    gradients: int
    """Of all parameters that get one."""
    optimizer: int
    """The optimiser's state."""
    activations: int
    """What else is live: tensors kept for the backward pass, temporaries, the batch."""

    @property
    def peak(self) -> int:
        """The most bytes that are live at once."""
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate_memory(
    model: Model,
    optimizer: Optimizer,
    images: tuple[int, int, int, int],
    settings: DeviceSettings,
    accumulate: int = 1,
) -> Memory:
    """Return the memory of a run of `model` and `optimizer`, both on the meta device and left as they are.

    `images` is the shape of a micro-batch (B, 3, H, W), of which a step has `accumulate`. `requires_grad` and the
    modules' modes are to be set as in the run. Of the settings, precision and memory format count; "auto" is read as
    fp32 and as torch's default format. Errors of the model's own for images that it does not take.
    """
    gradients, live = _passes(model, images, settings, accumulate)
    state, temporary = _update(optimizer, gradients)
    weights = _size([*model.parameters(), *model.buffers()])
    size = _size(gradients.values())
    return Memory(weights, size, state, max(live - size, temporary))


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operations make within the block; `before` are there already."""

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        # A storage is the same Python object as long as it lives, so its id is its name.
        self._known = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in before)}
        self._counted: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else (made,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._known or key in self._counted:
            return
        self._counted.add(key)
        size = storage.nbytes()
        weakref.finalize(storage, self._forget, key, size).atexit = False
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        self._counted.discard(key)
        self.now -= size


def _passes(
    model: Model, images: tuple[int, int, int, int], settings: DeviceSettings, accumulate: int
) -> tuple[dict[int, Tensor], int]:
    """Return the gradients by the identity of their parameter, on the meta device, and the peak but for the weights."""
    layout = torch.channels_last if settings.channels_last is True else torch.contiguous_format
    with FakeTensorMode(allow_non_fake_inputs=True):
        fakes = {id(tensor): _fake(tensor, layout) for tensor in _tensors(model)}
        ours = copy.deepcopy(model, dict(fakes))
        with _Live(fakes.values()) as live:
            # A second micro-batch meets the gradients of the first; a third would meet nothing new.
            _forward_backward(ours, images, layout, DTYPES.get(settings.precision), accumulate)
        made = {key: fake.grad for key, fake in fakes.items() if fake.grad is not None}
    return {key: torch.empty(grad.shape, dtype=grad.dtype, device="meta") for key, grad in made.items()}, live.peak


def _forward_backward(
    model: Model, images: tuple[int, int, int, int], layout: torch.memory_format, dtype: torch.dtype | None, pieces: int
) -> None:
    """The passes of one step of the loop, with its batch as it came and normalised."""
    count, *shape = images
    batch = torch.empty((count * pieces, *shape), dtype=torch.uint8).to(memory_format=layout)
    normalised = torch.empty_like(batch, dtype=torch.float32)
    target = torch.zeros(count, dtype=torch.long)
    for piece in normalised.tensor_split(pieces)[:2]:
        # The CPU's, wherever the run will be: fake tensors are of the CPU.
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            loss = model.loss(model(piece), target).sum() / count
        loss.backward()  # type: ignore[no-untyped-call]


def _tensors(model: nn.Module) -> list[Tensor]:
    """Parameters, buffers, and tensors that a module holds unregistered."""
    plain = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    return [*model.parameters(), *model.buffers(), *plain]


def _fake(tensor: Tensor, layout: torch.memory_format) -> Tensor:
    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    if fake.dim() == 4:
        fake = fake.to(memory_format=layout)
    return nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake


def _update(optimizer: Optimizer, gradients: Mapping[int, Tensor]) -> tuple[int, int]:
    """Return the bytes of the optimiser's state, and the peak of what its step needs for a moment."""
    try:
        return _step_twice(optimizer, gradients)
    # It asks for a value (RuntimeError), or for what only a real run gives it.
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError):
        sizes = [gradient.nbytes for gradient in gradients.values()]
        return STATE * sum(sizes), STATE * max(sizes, default=0)


def _step_twice(optimizer: Optimizer, gradients: Mapping[int, Tensor]) -> tuple[int, int]:
    """Step one parameter of each shape in a group: the others of that shape have as much state, and take turns."""
    counts = [_shapes(group["params"], gradients) for group in optimizer.param_groups]
    own = {id(old): nn.Parameter(torch.empty_like(old), old.requires_grad) for of in counts for old, _ in of}
    for key, parameter in own.items():
        parameter.grad = gradients[key]
    # The others stay themselves: nothing of them is touched.
    others = {id(old): old for group in optimizer.param_groups for old in group["params"]}
    ours = copy.deepcopy(optimizer, {**others, **own})
    for group, of in zip(ours.param_groups, counts, strict=True):
        group["params"] = [own[id(old)] for old, _ in of]
    ours.step()
    states = {key: list(_inside(ours.state.get(parameter))) for key, parameter in own.items()}
    with _Live([*own.values(), *gradients.values(), *chain(*states.values())]) as live:
        ours.step()
    return sum(count * _size(states[id(old)]) for of in counts for old, count in of), live.peak


def _shapes(parameters: Iterable[nn.Parameter], gradients: Mapping[int, Tensor]) -> list[tuple[nn.Parameter, int]]:
    """Return the first parameter with a gradient of each shape and type, and how many there are."""
    found: dict[Any, list[nn.Parameter]] = {}
    for parameter in parameters:
        if id(parameter) in gradients:
            found.setdefault((parameter.shape, parameter.dtype), []).append(parameter)
    return [(same[0], len(same)) for same in found.values()]


def _inside(state: object) -> Iterator[Tensor]:
    """Yield the tensors of an optimiser's state, however it nests them."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _inside(value)


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
