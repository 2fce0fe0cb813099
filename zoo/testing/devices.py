"""Checks of device strategies, on the CPU in fp32; those that take several processes, with two real ones too."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.devices.single import Single
from zoo.registry.builtin.devices import PARTS
from zoo.registry.contracts import DeviceSettings, Strategy
from zoo.registry.parts import DevicePart, NoOptions
from zoo.testing.kit import NotTriedError, Trial, check, expect
from zoo.testing.network import SIZE, STAGES, Small, alike, apart, draw, make
from zoo.testing.processes import together

SETTINGS = DeviceSettings(device="cpu", precision="fp32", channels_last=False)
METHODS = (
    *("place", "wrap", "micro", "inference", "send", "autocast", "backward", "step", "reduce", "collect", "total"),
    *("gather", "state", "load_state", "close"),
)
STEPS, IMAGES = 6, 8


def build(trial: Trial) -> Strategy:
    """Return the strategy for one CPU."""
    strategy: Strategy = trial.build(SETTINGS)
    return strategy


def single() -> Strategy:
    """Return zoo's own strategy for one CPU, which all others are compared with."""
    return Single(torch.device("cpu"), SETTINGS)


def fit(strategy: Strategy, accumulate: int = 1, clip_norm: float | None = None) -> dict[str, Tensor]:
    """Train the kit's own network for a few steps as zoo's loop does; return its tensors, whole."""
    from zoo.shards import whole_state

    model: nn.Module = make(lambda: Small(3)).eval()  # statistics of a batch depend on how it is cut
    strategy.place(model, (*STAGES, "fc"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    wrapped = strategy.wrap(model)
    for step in range(STEPS):
        images, targets = _own(draw(IMAGES, 3, *SIZE, seed=step), strategy), _own(torch.arange(IMAGES) % 3, strategy)
        pieces = list(zip(images.tensor_split(accumulate), targets.tensor_split(accumulate), strict=True))
        for place, (piece, target) in enumerate(pieces):
            with strategy.micro(last=place == len(pieces) - 1):
                with strategy.autocast():
                    logits = wrapped(strategy.send(piece))
                    loss = nn.functional.cross_entropy(logits, strategy.send(target), reduction="sum") / IMAGES
                strategy.backward(loss)
        strategy.step(optimizer, clip_norm)
    return {name: tensor.detach().clone() for name, tensor in whole_state(model.state_dict(), keep=True).items()}


def _own(rows: Tensor, strategy: Strategy) -> Tensor:
    return rows.tensor_split(strategy.processes)[strategy.rank]


def _compare(found: dict[str, Tensor], expected: dict[str, Tensor], words: str) -> None:
    for name, tensor in expected.items():
        expect(name in found, f"the canonical name {name}", sorted(found)[:5])
        expect(
            alike(found[name].cpu(), tensor, 1e-5), f"{name} as on a single device {words}", apart(found[name], tensor)
        )


@check("the loop calls these, and asks nobody which strategy it has")
def contract(trial: Trial) -> None:
    """A Strategy with every method, and a rank below the number of processes."""
    strategy: Any = build(trial)
    missing = [name for name in METHODS if not callable(getattr(strategy, name, None))]
    expect(not missing, "every method of a Strategy", f"missing: {missing}")
    expect(isinstance(strategy.device, torch.device), "a torch.device", type(strategy.device).__name__)
    expect(isinstance(strategy.settings, DeviceSettings), "DeviceSettings", type(strategy.settings).__name__)
    expect(0 <= strategy.rank < strategy.processes, "a rank below the number of processes", strategy.rank)
    expect(strategy.is_main == (strategy.rank == 0), "rank 0 as the main process", strategy.is_main)


@check("a run must come to the same weights under every strategy")
def same_as_single(trial: Trial) -> None:
    """After six steps the weights of a single device: in one piece, in micro-batches, and with clipped gradients."""
    for accumulate, clip in ((1, None), (2, None), (1, 0.05)):
        words = f"(accumulate {accumulate}, clip_norm {clip})"
        _compare(fit(build(trial), accumulate, clip), fit(single(), accumulate, clip), words)


@check("gradients of one step must not leak into the next")
def gradients_cleared(trial: Trial) -> None:
    """No gradient is left after a step."""
    strategy = build(trial)
    layer = nn.Linear(2, 1)
    strategy.place(layer)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    strategy.backward(strategy.wrap(layer)(strategy.send(torch.ones(1, 2))).sum())
    strategy.step(optimizer, None)
    left = [name for name, parameter in layer.named_parameters() if parameter.grad is not None and parameter.grad.any()]
    expect(not left, "no gradients after a step", left)


@check("images and targets must arrive as they were sent")
def send(trial: Trial) -> None:
    """The same values on the strategy's device, images and targets alike."""
    strategy = build(trial)
    for tensor in (draw(2, 3, 4, 4), torch.arange(3), torch.randint(0, 255, (2, 3, 4, 4)).to(torch.uint8)):
        sent = strategy.send(tensor)
        expect(sent.device == strategy.device, f"a tensor on {strategy.device}", sent.device)
        expect(sent.dtype == tensor.dtype and torch.equal(sent.cpu(), tensor), "the same values", "others")


@check("metrics, stops and checkpoints are agreed on through these")
def agreement(trial: Trial) -> None:
    """With one process sums, rows and values are its own."""
    strategy, rows = build(trial), draw(3, 2)
    expect(torch.equal(strategy.reduce(rows), rows), "its own tensor from reduce", "another")
    expect(torch.equal(strategy.collect(rows), rows), "its own rows from collect", "others")
    expect(list(strategy.total([1.5, 2])) == [1.5, 2], "its own numbers from total", strategy.total([1.5, 2]))
    expect(list(strategy.gather({"a": 1})) == [{"a": 1}], "its own value from gather", strategy.gather({"a": 1}))


@check("a checkpoint keeps what the strategy gives it, in JSON")
def state(trial: Trial) -> None:
    """Its state is plain numbers, and taken back."""
    strategy = build(trial)
    found = dict(strategy.state())
    odd = {name: value for name, value in found.items() if type(value) not in (int, float)}
    expect(not odd, "plain numbers", odd)
    other = build(trial)
    other.load_state(found)
    expect(dict(other.state()) == found, "the state that was loaded", dict(other.state()))


@check("validation must not hold what training needs for gradients")
def inference(trial: Trial) -> None:
    """No gradients are recorded in `inference()`, and fp32 stays fp32 in `autocast()`."""
    strategy, layer = build(trial), nn.Linear(2, 1)
    with strategy.inference(), strategy.autocast():
        found = layer(torch.ones(1, 2))
    expect(not found.requires_grad, "no gradient in inference", "one is recorded")
    expect(found.dtype == torch.float32, "float32 under fp32", found.dtype)


@check("every process must take the step of the whole batch", slow=True)
def two_processes(trial: Trial) -> None:
    """Two processes with half a batch each come to the weights of a single device, both to the same bits."""
    if not (isinstance(trial.part, DevicePart) and trial.part.processes):
        raise NotTriedError("the strategy takes one process")
    expected = fit(single())
    found = together(trial.folder / "processes", 2, _fit_there, trial.part, trial.options)
    for rank, (processes, own, agreed) in enumerate(found):
        expect(processes == 2, "a strategy of two processes", processes)
        _compare(own, expected, f"(process {rank} of 2)")
        expect(agreed == ([3.0], [0, 1], [[0.0], [1.0], [1.0]]), "sums, values and rows of both processes", agreed)
    same = all(torch.equal(tensor, found[1][1][name]) for name, tensor in found[0][1].items())
    expect(same, "the same bits in both processes", "other ones")


def _fit_there(part: DevicePart, options: NoOptions) -> tuple[int, dict[str, Tensor], tuple[Sequence[Any], ...]]:
    strategy: Strategy = part.builder()(options, SETTINGS)
    tensors = fit(strategy)
    rows = torch.full((1 + strategy.rank, 1), float(strategy.rank))
    agreed = (
        strategy.total([1.0 + strategy.rank]),
        list(strategy.gather(strategy.rank)),
        strategy.collect(rows).tolist(),
    )
    processes = strategy.processes
    strategy.close()
    return processes, tensors, agreed


def ddp() -> DevicePart:
    """Return zoo's own strategy of several processes."""
    return next(part for part in PARTS if part.name == "ddp")


CHECKS = (contract, same_as_single, gradients_cleared, send, agreement, state, inference, two_processes)
