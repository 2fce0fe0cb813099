"""What benchmarks/freezing.py measures: what a run does to a frozen backbone, of torch or of Keras."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EPOCHS, BATCH, TRAIN, VAL, CLASSES = 2, 16, 80, 40, 10
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Found:
    """What one way of freezing did to the backbone, in words and two numbers."""

    requires_grad: str
    weights: str
    used: str
    kept: str
    dropout: str
    optimised: str
    drift: float
    features: float

    def words(self) -> tuple[str, ...]:
        """Return what does not hang on the optimiser's step size."""
        return self.requires_grad, self.weights, self.used, self.kept, self.dropout, self.optimised

    def cells(self) -> list[str]:
        """Return the cells of the table, with the figures."""
        kept = self.kept if self.kept == "kept" else f"{self.kept}, by up to {percent(self.drift)}"
        features = percent(self.features) if self.features else "0"
        return [self.requires_grad, self.weights, self.used, kept, self.dropout, self.optimised, features]


def percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 1 else f"{100 * share:.0f} %"


class Watch:
    """Looks at a frozen backbone while something else trains a head on it.

    A step of training is told by the head's mode, for the backbone may rightly be in eval mode all the time.
    """

    def __init__(self, net: Any, head: Any, probe: Any) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self.net, self.head, self.probe = net, head, probe
        self.steps = 0
        self.optimised: set[int] = set()
        self.used: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self._statistics: dict[Any, Any] = {}
        own = {id(parameter) for parameter in head.parameters()}
        self.parameters = {name: value for name, value in net.named_parameters() if id(value) not in own}
        self.norms = {name for name, module in net.named_modules() if hasattr(module, "running_mean")}
        self.before, self.features_before = self._state(), self._features()
        for module in net.modules():
            if hasattr(module, "running_mean"):
                module.register_forward_pre_hook(self._before_norm)
                module.register_forward_hook(self._after_norm)
            elif getattr(module, "drop_prob", 0) or (getattr(module, "p", 0) and "Dropout" in type(module).__name__):
                module.register_forward_hook(self._after_drop)
        register_optimizer_step_post_hook(self._stepped)

    def _state(self) -> dict[str, Any]:
        own = {id(value) for value in self.head.state_dict(keep_vars=True).values()}
        state = self.net.state_dict(keep_vars=True).items()
        return {name: value.detach().clone() for name, value in state if id(value) not in own}

    def _features(self) -> Any:
        """Return the backbone's features of the probe in eval mode; each module's mode stays what it is."""
        import torch

        modes = {module: module.training for module in self.net.modules()}
        images = self.probe
        with torch.no_grad():
            for module in modes:
                module.training = False
            for name, child in self.net.named_children():
                images = images if name == "fc" else child(images)
            for module, mode in modes.items():
                module.training = mode
        return images.flatten(1)

    def _before_norm(self, norm: Any, _: Any) -> None:
        self._statistics[norm] = norm.running_mean.clone(), norm.running_var.clone()

    def _after_norm(self, norm: Any, inputs: Any, output: Any) -> None:
        if self.head.training and not is_probe(inputs[0]):
            mean, var = self._statistics[norm]
            self.used[statistics_used(inputs[0], output, mean, var, norm.weight, norm.bias, norm.eps)] += 1

    def _after_drop(self, _: Any, inputs: Any, output: Any) -> None:
        if self.head.training and not is_probe(inputs[0]):
            self.drops["off" if output.equal(inputs[0]) else "active"] += 1

    def _stepped(self, optimizer: Any, *_: Any) -> None:
        self.steps += 1
        self.optimised |= {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}

    def found(self) -> Found:
        """Compare the backbone with what it was."""
        if self.steps != EPOCHS * TRAIN // BATCH:
            raise RuntimeError(f"{self.steps} steps were taken")
        after, parameters = self._state(), self.parameters
        moved = {name for name, value in self.before.items() if not value.equal(after[name])}
        statistics = {name for name in self.before if name.rpartition(".")[2] in STATISTICS}
        kept = moved & statistics
        drifts = [change(self.before[name], after[name]) for name in kept if not name.endswith("tracked")]
        held = {name for name, value in parameters.items() if not value.requires_grad}
        return Found(
            requires_grad=self._which(held, set(parameters), "all", "none"),
            weights=self._weights(moved - statistics, len(self.before) - len(statistics)),
            used=told(self.used),
            kept="move" if kept else "kept",
            dropout=told(self.drops, "none in it"),
            optimised=self._which({n for n, p in parameters.items() if id(p) in self.optimised}, set(parameters)),
            drift=max(drifts, default=0.0),
            features=change(self.features_before, self._features()),
        )

    def _weights(self, moved: set[str], count: int) -> str:
        if not moved:
            return "kept"
        return "batch norms’ move" if self._of_norms(moved) else f"{len(moved)} of {count} move"

    def _which(self, chosen: set[str], names: set[str], every: str = "yes", no: str = "no") -> str:
        if not chosen or chosen == names:
            return every if chosen else no
        if self._of_norms(names - chosen):
            return f"{every} but batch norms’"
        return "batch norms’" if self._of_norms(chosen) else f"{len(chosen)} of {len(names)}"

    def _of_norms(self, names: set[str]) -> bool:
        return {name.rpartition(".")[0] for name in names} <= self.norms


def is_probe(images: Any) -> bool:
    """Whether this is the watch's own forward pass, of 8 images; a batch is 16."""
    return len(images) < BATCH


def change(before: Any, after: Any) -> float:
    """Return the largest difference, as a share of the largest value."""
    return float((after - before).detach().abs().max() / before.detach().abs().max())


def statistics_used(images: Any, output: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float) -> str:
    """Return whether a batch norm's output was made with the running statistics (as before the step) or the batch's."""
    from torch.nn.functional import batch_norm

    by_running = batch_norm(images, mean, var, weight, bias, False, 0.0, eps)
    by_batch = batch_norm(images, None, None, weight, bias, True, 0.0, eps)
    distances = {"running": change(by_running, output), "the batch’s": change(by_batch, output)}
    return min(distances, key=lambda name: distances[name])


def told(counts: Counter[str], nothing: str = "–") -> str:
    if len(counts) < 2:
        return next(iter(counts), nothing)
    return ", ".join(f"{name} ({count} of {counts.total()})" for name, count in counts.most_common())


class KerasWatch:
    """The same of a Keras model's base, whose layers know no hooks: their `call` is wrapped."""

    def __init__(self, model: Any, base: Any, probe: Any) -> None:
        self.model, self.base, self.probe = model, base, probe.movedim(1, -1)
        self.used: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.before, self.features_before = self._state(), self._features()
        for layer in base.layers:
            if type(layer).__name__ == "BatchNormalization":
                layer.call = self._norm(layer, layer.call)
            elif type(layer).__name__ == "Dropout" and layer.rate:
                layer.call = self._drop(layer.call)

    def _state(self) -> dict[str, Any]:
        return {variable.path: variable.value.detach().clone() for variable in self.base.weights}

    def _features(self) -> Any:
        import torch

        with torch.no_grad():
            return self.base(self.probe, training=False)

    def _norm(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(inputs: Any, *args: Any, **keys: Any) -> Any:
            mean, var = layer.moving_mean.value.clone(), layer.moving_variance.value.clone()
            output = call(inputs, *args, **keys)
            if in_training(inputs):
                images, made = inputs.movedim(-1, 1), output.movedim(-1, 1)
                weight, bias = layer.gamma.value, layer.beta.value
                self.used[statistics_used(images, made, mean, var, weight, bias, layer.epsilon)] += 1
            return output

        return watched

    def _drop(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(inputs: Any, *args: Any, **keys: Any) -> Any:
            output = call(inputs, *args, **keys)
            if in_training(inputs):
                self.drops["off" if output.equal(inputs) else "active"] += 1
            return output

        return watched

    def found(self) -> Found:
        """Compare the base with what it was."""
        after, base = self._state(), self.base
        moved = {name for name, value in self.before.items() if not value.equal(after[name])}
        statistics = {name for name in moved if "moving_" in name}
        weights, held = moved - statistics, {id(variable) for variable in self.model.optimizer._trainable_variables}
        return Found(
            requires_grad="none" if base.trainable_variables else "all",
            weights=f"{len(weights)} move" if weights else "kept",
            used=told(self.used),
            kept="move" if statistics else "kept",
            dropout=told(self.drops, "none in it"),
            optimised="yes" if any(id(variable) in held for variable in base.weights) else "no",
            drift=max((change(self.before[name], after[name]) for name in statistics), default=0.0),
            features=change(self.features_before, self._features()),
        )


def in_training(inputs: Any) -> bool:
    """Whether this is a step of Keras's `fit`, not of its validation, which it runs without gradients."""
    import torch

    return torch.is_grad_enabled() and inputs.device.type != "meta"
