"""Weights sources, freeze policies, strategies, exporters and callbacks, and what their authors may get wrong."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import zoo
from tests.testing.faulty.backbones import Faulty
from zoo.devices.single import Single
from zoo.export.state import build_safetensors
from zoo.files import sha256
from zoo.registry.builtin.export import SafetensorsOptions

WEIGHTS = {
    "another digest": "contract",
    "no such file": "contract",
    "not numbers": "readable",
    "a pattern that matches nothing": "naming",
    "downloads again": "repeatable",
    "classes twice": "facts",
    "a list of classes": "facts",
    "std of zero": "facts",
}


def weights(options: Faulty, request: zoo.WeightsRequest) -> zoo.WeightsFile:
    fault, path = options.fault, request.cache / "weights.safetensors"
    if not path.exists() or fault == "downloads again":
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"fc.weight": torch.full((3, 2), torch.nan if fault == "not numbers" else 1.0)}, path)
    return zoo.WeightsFile(
        path.with_name("other") if fault == "no such file" else path,
        origin="the cache",
        sha256="0" * 64 if fault == "another digest" else sha256(path),
        rename=(("^backbone\\.", ""),) if fault == "a pattern that matches nothing" else (("^fc", "head"),),
        input=zoo.InputSpec(std=(0.0, 1.0, 1.0)) if fault == "std of zero" else None,
        classes={"classes twice": ("cat", "cat"), "a list of classes": ["cat"]}.get(fault),
    )


FREEZE = {
    "forgets the norms": "cover",
    "names of its own": "cover",
    "a negative rate": "cover",
    "True for trained": "cover",
    "divides by the epochs": "cover",
    "changes the layout": "pure",
    "nothing at last": "something trains",
    "counts its calls": "pure",
    "remembers the last epoch": "pure",
    "slow": "quick",
}


def freeze(options: Faulty) -> zoo.FreezePolicy:
    fault, calls = options.fault, []

    def policy(layout: zoo.Layout, epoch: int) -> Mapping[str, Any]:
        calls.append(epoch)
        if fault == "slow":
            time.sleep(0.03)
        if fault == "divides by the epochs":
            epoch // layout.epochs
        if fault == "changes the layout":
            layout.depths.clear()
        names = [name for name in layout.parameters if fault != "forgets the norms" or name not in layout.norms]
        rates: dict[str, Any] = dict.fromkeys(names, 1.0)
        if fault == "names of its own":
            rates["classifier.weight"] = 1.0
        if fault == "a negative rate":
            rates[names[0]] = -0.1
        if fault == "True for trained":
            rates[names[0]] = True
        if fault == "nothing at last" and epoch == layout.epochs - 1:
            rates = dict.fromkeys(names)
        if fault == "counts its calls" and len(calls) > 3:
            rates[names[0]] = None
        if fault == "remembers the last epoch" and max(calls) > 5:
            rates[names[0]] = None
        return rates

    return policy


DEVICE = {
    "sums over the batch": "same as single",
    "does not clip": "same as single",
    "leaves gradients": "same as single",
    "sends in half precision": "send",
    "state that is no JSON": "state",
    "no collect": "contract",
    "records gradients": "inference",
    "drops values": "agreement",
}


class Strategy(Single):
    """A single device with a fault."""

    fault = ""

    def backward(self, loss: Tensor) -> None:
        super().backward(loss * 8 if self.fault == "sums over the batch" else loss)

    def step(self, optimizer: torch.optim.Optimizer, clip_norm: float | None) -> None:
        if self.fault == "leaves gradients":
            optimizer.step()
            return
        super().step(optimizer, None if self.fault == "does not clip" else clip_norm)

    def send(self, tensor: Tensor) -> Tensor:
        half = self.fault == "sends in half precision" and tensor.is_floating_point() and tensor.numel() < 1000
        return tensor.half() if half else super().send(tensor)

    def state(self) -> Mapping[str, Any]:
        return {"scale": torch.ones(())} if self.fault == "state that is no JSON" else super().state()

    def inference(self) -> Any:
        return torch.enable_grad() if self.fault == "records gradients" else super().inference()

    def total(self, values: Any) -> list[float]:
        return [] if self.fault == "drops values" else super().total(values)


def device(options: Faulty, settings: zoo.DeviceSettings) -> Strategy:
    strategy = Strategy(torch.device("cpu"), settings)
    strategy.fault = options.fault
    if options.fault == "no collect":
        strategy.collect = None
    return strategy


EXPORT = {
    "forgets a file": "files",
    "writes elsewhere": "files",
    "the time in the file": "same bytes",
    "the same file always": "same bytes",
    "reads the trained model": "reads back",
    "another transposition": "reads back",
    "one image alone": "reads back",
    "a runtime with a version": "contract",
    "changes the model": "model untouched",
    "code that needs zoo": "code",
    "code without a network": "code",
    "a tolerance for anything": "contract",
}


class Exporter:
    """Zoo's safetensors with a fault."""

    def __init__(self, fault: str) -> None:
        self.fault, self.inner = fault, build_safetensors(SafetensorsOptions())
        self.tolerance = 1.5 if fault == "a tolerance for anything" else self.inner.tolerance
        self.max_drop, self.takes = None, "normalised"
        self.model: Any = None

    def runtime(self, native: zoo.Native) -> str:
        return "timm>=1.0" if self.fault == "a runtime with a version" else self.inner.runtime(native)

    def check(self, model: zoo.Exportable) -> None:
        self.inner.check(model)

    def write(self, model: zoo.Exportable, folder: Path) -> tuple[Path, ...]:
        state = dict(model.state)
        if self.fault == "the same file always":
            state = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        if self.fault == "another transposition":
            first = next(name for name, tensor in state.items() if tensor.dim() == 4 and tensor.shape[2] > 1)
            state[first] = state[first].flip(3)
        if self.fault == "changes the model":
            next(iter(state.values())).data.mul_(2)
        self.model = model
        files = self.inner.write(replace(model, state=state), folder)
        if self.fault == "forgets a file":
            (folder / "config.json").write_text("{}")
        if self.fault == "writes elsewhere":
            Path("export.log").write_text("done")
        if self.fault == "the time in the file":
            (folder / "made.txt").write_text(str(time.perf_counter_ns()))
            files = (*files, folder / "made.txt")
        return files

    def read(self, model: zoo.Described, folder: Path) -> Callable[[Tensor], Tensor]:
        if self.fault == "reads the trained model":
            if not (folder.parent / "written").exists():
                raise FileNotFoundError(folder.parent / "written")
            return zoo.build_network(self.model)
        network = self.inner.read(model, folder)
        return (lambda images: network(images[:1])) if self.fault == "one image alone" else network

    def code(self, model: zoo.Described) -> str:
        if self.fault == "code that needs zoo":
            return "import zoo\nnetwork = zoo.load('.')"
        text = self.inner.code(model)
        return text.replace("network", "net") if self.fault == "code without a network" else text


def export(options: Faulty) -> Exporter:
    return Exporter(options.fault)


CALLBACK = {
    "no events": "contract",
    "a misspelt event": "contract",
    "a wrong argument": "contract",
    "changes the metrics": "run unchanged",
    "changes the checkpoint": "run unchanged",
    "deletes a checkpoint": "run unchanged",
    "writes elsewhere": "leaves nothing",
    "a file of its own beside the run's": "leaves nothing",
    "prints": "leaves nothing",
    "a thread that goes on": "leaves nothing",
    "sets the threads": "leaves nothing",
    "fails when resumed": "resumes",
    "stops by chance": "stop is pure",
    "stops with True": "stop is pure",
}
STOP = threading.Event()


class Callback:
    """Hears the run, with a fault."""

    def __init__(self, fault: str, folder: Path) -> None:
        self.fault, self.folder = fault, folder

    @zoo.hookimpl
    def run_started(self, event: zoo.RunStarted) -> None:
        if self.fault == "fails when resumed" and event.history:
            raise KeyError("no logger")
        if self.fault == "a thread that goes on":
            threading.Thread(target=STOP.wait).start()
        if self.fault == "a daemon thread":
            threading.Thread(target=STOP.wait, daemon=True).start()

    @zoo.hookimpl
    def evaluated(self, event: zoo.Evaluated) -> None:
        if self.fault == "changes the metrics":
            event.metrics["val/loss"] = 0.0
        if self.fault == "changes the checkpoint":
            for path in self.folder.rglob("model.safetensors"):
                state = load_file(path)
                save_file({name: tensor * 0 for name, tensor in state.items()}, path)
        if self.fault == "deletes a checkpoint" and event.epoch == 1:
            next(self.folder.rglob("model.safetensors")).unlink()
        if self.fault == "writes elsewhere":
            Path("log.csv").write_text("1")
        if self.fault == "a file of its own beside the run's":
            (self.folder / "log.csv").write_text("1")
        if self.fault == "prints":
            print(event.metrics)
        if self.fault == "sets the threads":
            torch.set_num_threads(torch.get_num_threads() + 1)


class NoEvents:
    """Hears nothing."""


class Misspelt:
    """Hears nothing, by mistake."""

    @zoo.hookimpl
    def run_start(self, event: zoo.RunStarted) -> None: ...


class WrongArgument:
    """Asks for what an event does not have."""

    @zoo.hookimpl
    def run_started(self, event: zoo.RunStarted, model: Any) -> None: ...


class Stopping:
    """Asks to stop."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    @zoo.hookimpl
    def should_stop(self, history: Any) -> Any:
        if self.fault == "stops with True":
            return True if len(history) > 6 else None
        return f"it took {time.perf_counter_ns()} ns" if len(history) > 6 else None


def callback(options: Faulty, folder: Path) -> Any:
    fault = options.fault
    odd = {"no events": NoEvents, "a misspelt event": Misspelt, "a wrong argument": WrongArgument}
    if fault in odd:
        return odd[fault]()
    return Stopping(fault) if fault.startswith("stops") else Callback(fault, folder)


def _part(cls: Any, name: str) -> Any:
    return cls("faulty", build=f"tests.testing.faulty.others:{name}", options=Faulty, summary=f"a faulty {name}")


PARTS = {
    "weights": (_part(zoo.WeightsPart, "weights"), WEIGHTS),
    "freeze": (_part(zoo.FreezePart, "freeze"), FREEZE),
    "device": (_part(zoo.DevicePart, "device"), DEVICE),
    "export": (_part(zoo.ExportPart, "export"), EXPORT),
    "callback": (_part(zoo.CallbackPart, "callback"), CALLBACK),
}
