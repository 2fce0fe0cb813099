"""Moving between machines: what was saved under one wrapper comes back under any other, to the same bits.

One process saves and loads without a wrapper, under DataParallel, torch.compile and both; two real processes do so
under DDP, DDP with torch.compile, and FSDP. Every file goes into every model.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from tests.train.tiny import phases_of
from zoo.recipe.schema import OptimTable
from zoo.train.checkpoint import Checkpoints
from zoo.train.optim import make_optimizer, set_rate
from zoo.train.optim_state import load_optimizer, optimizer_numbers, optimizer_tensors
from zoo.weights import Ledger, load

Wrap = Callable[[nn.Module], nn.Module]
PATIENCE = 60  # seconds that one process waits for the other
SEED = 7


class Net(nn.Module):
    """Convolution, norm with its buffers, blocks, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8, bias=False))
        self.fc = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.bn(self.conv(images)).relu().mean((2, 3))
        return cast(Tensor, self.fc(self.blocks(features)))


def _net(seed: int) -> Net:
    """Return a net whose running averages are not the first ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Net()
        net(torch.randn(4, 3, 8, 8))
    return net


@cache
def _saved() -> Net:
    """Return the net whose values every file holds; it is only looked at."""
    return _net(SEED)


def _compiled(model: nn.Module) -> nn.Module:
    """Names are the same under every backend."""
    return cast(nn.Module, torch.compile(model, backend="eager"))


ALONE: Mapping[str, Wrap] = {
    "plain": lambda model: model,
    "DataParallel": nn.DataParallel,
    "compile": _compiled,
    "DataParallel(compile)": lambda model: nn.DataParallel(_compiled(model)),
    "compile(DataParallel)": lambda model: _compiled(nn.DataParallel(model)),
}
PAIRED: Mapping[str, Wrap] = {
    "DDP": DistributedDataParallel,
    "DDP(compile)": lambda model: DistributedDataParallel(_compiled(model)),
    "compile(DDP)": lambda model: _compiled(DistributedDataParallel(model)),
}
PREFIXES = {
    "plain": "",
    "DataParallel": "module.",
    "compile": "_orig_mod.",
    "DataParallel(compile)": "module._orig_mod.",
    "compile(DataParallel)": "_orig_mod.module.",
    "DDP": "module.",
    "DDP(compile)": "module._orig_mod.",
    "compile(DDP)": "_orig_mod.module.",
    "FSDP": "",
    "FSDP1": "_fsdp_wrapped_module.",
}
TABLES = {"adamw": OptimTable(), "momentum": OptimTable(use="sgd", momentum=0.9)}


def _rules(source: str) -> set[str]:
    """What the ledger must say of the keys of a file saved under `source`, whatever the model is wrapped in."""
    return {"wrapper segments" if PREFIXES[source] else ""}


def _told(net: nn.Module) -> str:
    """Return one digest of every tensor, by name."""
    digest = sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _logits(net: nn.Module) -> Tensor:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return cast(Tensor, net.eval()(images))


def _moved(ledger: Ledger, net: Net) -> list[Any]:
    """Return what is told of a loading: share, rules, digest, and whether the logits are those of the saved net."""
    same = torch.equal(_logits(net), _logits(_saved()))
    return [ledger.coverage, sorted({entry.reason for entry in ledger.entries}), _told(net), same]


def _expected(source: str, target: str) -> list[Any]:
    return [1.0, sorted(_rules(source)), _told(_saved()), True]


# Optimisers: two steps, kept as a run keeps them; the third one is taken with and without the move.


def _optimizer(model: nn.Module, table: OptimTable) -> Optimizer:
    return make_optimizer(table, model, phases_of(model, {name: 1.0 for name, _ in model.named_parameters()}))


def _step(model: nn.Module, optimizer: Optimizer, number: int) -> None:
    """Step on gradients that only the step and the parameter's place decide."""
    for place, parameter in enumerate(model.parameters()):
        random = torch.Generator().manual_seed(100 * number + place)
        parameter.grad = torch.randn(parameter.shape, generator=random)
    _finish(optimizer)


def _real_step(model: nn.Module, optimizer: Optimizer, number: int) -> None:
    """Step on the gradient of a loss: under DDP each process has its own images, and the mean is taken."""
    rank = distributed.get_rank()
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(10 * number + rank))
    model(images).square().sum().backward()
    _finish(optimizer)


def _finish(optimizer: Optimizer) -> None:
    set_rate(optimizer, 1e-2)
    optimizer.step()
    optimizer.zero_grad()


def _train(folder: Path, kind: str, wrap: Wrap, table: str, write: bool = True) -> None:
    """Keep a checkpoint after two steps, and the net after the third."""
    net = _net(SEED)
    model = wrap(net)
    optimizer = _optimizer(model, TABLES[table])
    step = _real_step if kind == "DDP" else _step
    for number in range(2):
        step(model, optimizer, number)
    place = folder / table / kind
    if write:
        tensors = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer)}
        Checkpoints(place, 1).save(2, tensors, {"optimizer": optimizer_numbers(optimizer)}, best=False)
    _step(model, optimizer, 2)
    if write:
        (place / "after").write_text(_parameters(net))


def _resume(folder: Path, kind: str, wrap: Wrap, table: str) -> str:
    """Take the third step in a new model, from the checkpoint."""
    net = _net(SEED + 1)
    model = wrap(net)
    kept = Checkpoints(folder / table / kind, 1).newest()
    assert kept is not None
    load(model, kept.path / "model.safetensors")
    optimizer = _optimizer(model, TABLES[table])
    load_optimizer(optimizer, kept.tensors["optimizer"], kept.state["optimizer"])
    _step(model, optimizer, 2)
    return _parameters(net)


def _parameters(net: nn.Module) -> str:
    return _told(nn.ParameterDict({name.replace(".", "/"): value.detach() for name, value in net.named_parameters()}))


def _steps(folder: Path, kind: str, table: str) -> str:
    return (folder / table / kind / "after").read_text()


# The two processes.


def main(folder: Path) -> None:
    """Start both. They are forked where that is safe: imports are most of their time."""
    how = "fork" if sys.platform == "linux" else "spawn"
    torch.multiprocessing.start_processes(_process, (folder,), nprocs=2, start_method=how)


def _process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    meet = (folder / "meet").as_uri()
    distributed.init_process_group(
        "gloo", init_method=meet, rank=rank, world_size=2, timeout=timedelta(seconds=PATIENCE)
    )
    try:
        _save_paired(folder, rank)
        distributed.barrier()
        told = {"weights": _load_paired(folder, rank), "optimisers": _resume_paired(folder)}
        (folder / f"{rank}.json").write_text(json.dumps(told))
    finally:
        distributed.destroy_process_group()


def _save_paired(folder: Path, rank: int) -> None:
    states: dict[str, Mapping[str, Any]] = {kind: wrap(_net(SEED)).state_dict() for kind, wrap in PAIRED.items()}
    states["FSDP"] = _sharded_state()
    for kind, state in states.items() if rank == 0 else ():
        torch.save(state, folder / f"{kind}.pth")
    for kind, wrap in PAIRED.items():
        for table in TABLES:
            _train(folder, kind, wrap, table, write=rank == 0)


def _sharded_state() -> Mapping[str, Any]:
    """Return the full state of a net whose parameters are spread over both processes."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    net = _net(SEED)
    fully_shard(net.blocks, mesh=(mesh := init_device_mesh("cpu", (2,))))
    fully_shard(net, mesh=mesh)
    return get_model_state_dict(net, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def _load_paired(folder: Path, rank: int) -> dict[str, list[Any]]:
    """Load every file into every wrapped model; before, the two processes' models differ in every tensor."""
    told = {}
    for target, wrap in PAIRED.items():
        for source in PREFIXES:
            net = _net(SEED + 1)
            model = wrap(net)
            for tensor in net.state_dict().values():
                tensor.add_(rank + 1)
            told[f"{source} to {target}"] = _moved(load(model, folder / f"{source}.pth"), net)
    return told


def _resume_paired(folder: Path) -> dict[str, str]:
    return {
        f"{source} to {target}, {table}": _resume(folder, source, wrap, table)
        for target, wrap in PAIRED.items()
        for source in (*ALONE, *PAIRED)
        for table in TABLES
    }


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Logits are compared to the bit; and for tensors this small more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A folder with a file saved under every wrapper, checkpoints likewise, and what the two processes told."""
    folder = tmp_path_factory.mktemp("moving")
    for kind, wrap in ALONE.items():
        torch.save(wrap(_net(SEED)).state_dict(), folder / f"{kind}.pth")
        for table in TABLES:
            _train(folder, kind, wrap, table)
    # FSDP's first version strips its own segments from a state dict, not from the names of parameters.
    inside = {f"blocks.{PREFIXES['FSDP1']}{name}": value for name, value in _saved().blocks.state_dict().items()}
    others = {name: value for name, value in _saved().state_dict().items() if not name.startswith("blocks.")}
    named = {f"{PREFIXES['FSDP1']}{name}": value for name, value in {**others, **inside}.items()}
    torch.save(named, folder / "FSDP1.pth")
    _run_both(folder)
    return folder


def _run_both(folder: Path) -> None:
    code = f"from pathlib import Path; from tests.weights.test_moving import main; main(Path({str(folder)!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=2 * PATIENCE)
    finally:  # whatever happens, none of the three stays behind
        _end(process)
    assert process.returncode == 0, said


def _end(process: "subprocess.Popen[str]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _both(folder: Path, what: str, key: str) -> list[Any]:
    return [json.loads((folder / f"{rank}.json").read_text())[what][key] for rank in range(2)]


@pytest.mark.parametrize("kind", PREFIXES)
def test_the_files_have_the_names_of_their_wrapper(kind: str, folder: Path) -> None:
    state = torch.load(folder / f"{kind}.pth", weights_only=True)
    bare = [name.replace("blocks._fsdp_wrapped_module.", "blocks.") for name in state]
    assert sorted(bare) == sorted(f"{PREFIXES[kind]}{name}" for name in _saved().state_dict())


@pytest.mark.parametrize("target", ALONE)
@pytest.mark.parametrize("source", PREFIXES)
def test_weights_move(source: str, target: str, folder: Path) -> None:
    net = _net(SEED + 1)
    ledger = load(ALONE[target](net), folder / f"{source}.pth")
    values = _saved().state_dict()
    assert [name for name, value in net.state_dict().items() if not torch.equal(value, values[name])] == []
    assert _moved(ledger, net) == _expected(source, target)


@pytest.mark.parametrize("target", PAIRED)
@pytest.mark.parametrize("source", PREFIXES)
def test_weights_move_into_both_processes(source: str, target: str, folder: Path) -> None:
    assert _both(folder, "weights", f"{source} to {target}") == [_expected(source, target)] * 2


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("target", ALONE)
@pytest.mark.parametrize("source", [*ALONE, *PAIRED])
def test_an_optimiser_moves(source: str, target: str, table: str, folder: Path) -> None:
    assert _resume(folder, source, ALONE[target], table) == _steps(folder, source, table)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("target", PAIRED)
@pytest.mark.parametrize("source", [*ALONE, *PAIRED])
def test_an_optimiser_moves_into_both_processes(source: str, target: str, table: str, folder: Path) -> None:
    told = _both(folder, "optimisers", f"{source} to {target}, {table}")
    assert told == [_steps(folder, source, table)] * 2


def test_without_its_state_an_optimiser_steps_elsewhere(folder: Path) -> None:
    """The steps above are only worth comparing when the state decides them."""
    for table in TABLES:
        net = _net(SEED)
        load(net, folder / table / "plain" / "step-00000002" / "model.safetensors")
        _step(net, _optimizer(net, TABLES[table]), 2)
        assert _parameters(net) != _steps(folder, "plain", table)


def test_a_model_that_has_been_compiled_uses_what_is_loaded(folder: Path) -> None:
    model = _compiled(_net(SEED + 1))
    before = _logits(model)
    load(model, folder / "DDP.pth")
    assert not torch.equal(_logits(model), before)
    assert torch.equal(_logits(model), _logits(_saved()))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("target", ALONE)
@pytest.mark.parametrize("source", ["plain", "DataParallel"])
def test_files_of_a_device_that_is_not_here(
    source: str, target: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:3")
    path, net = tmp_path / "x.pth", _net(SEED + 1)
    torch.save(ALONE[source](_net(SEED)).state_dict(), path, _use_new_zipfile_serialization=zipped)
    assert b"cuda:3" in path.read_bytes()
    assert _moved(load(ALONE[target](net), path), net) == _expected(source, target)
    assert {value.device.type for value in net.state_dict().values()} == {"cpu"}


@pytest.mark.gpu
@pytest.mark.parametrize("source", ALONE)
@pytest.mark.parametrize("target", ALONE)
def test_weights_move_between_devices(source: str, target: str, tmp_path: Path) -> None:
    torch.save(ALONE[source](_net(SEED).cuda()).state_dict(), tmp_path / "x.pth")
    here, there = _net(SEED + 1), _net(SEED + 1).cuda()
    assert _moved(load(ALONE[target](here), tmp_path / "x.pth"), here) == _expected(source, target)
    load(ALONE[target](there), tmp_path / "x.pth")
    assert {value.device.type for value in there.state_dict().values()} == {"cuda"}
    assert _told(there.cpu()) == _told(here)
