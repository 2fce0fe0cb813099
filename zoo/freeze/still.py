"""Make a model follow a Plan: requires_grad, and modules that stay in eval mode whatever calls `train()`."""

from collections.abc import Container
from types import MethodType

from torch import nn

from zoo.freeze.layout import statistics
from zoo.freeze.plan import Plan


def follow(model: nn.Module, plan: Plan) -> None:
    """Set requires_grad by the plan's rates, and hold its fixed norms and still modules in eval mode.

    What an earlier plan held and this one does not goes back to the mode of the model.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(plan.rates[name] is not None)
    for module in model.modules():
        release(module)
    model.train(model.training)
    tracked = {model.get_submodule(name) for name in plan.tracked_norms}
    for name in plan.still | plan.fixed_norms:
        hold_eval(model.get_submodule(name), tracked)


def fix_batchnorm(model: nn.Module) -> None:
    """Fix the statistics of every batch norm in `model`: they are used and never updated, whatever calls `train()`.

    Their weights and biases train on. `unfix_batchnorm` undoes it.
    """
    for module in statistics(model).values():
        hold_eval(module)


def unfix_batchnorm(model: nn.Module) -> None:
    """Let every batch norm in `model` follow `train()` and `eval()` again, from now on in the mode of the model."""
    for module in statistics(model).values():
        for held in module.modules():
            release(held)
        module.train(model.training)


def hold_eval(module: nn.Module, but: Container[nn.Module] = ()) -> None:
    """Put a module and all below it, `but` for some, in eval mode for good.

    The method is replaced on each instance, so `train()` on the module itself, on one below it, on a parent, or from a
    callback leaves them alone; the class, the names and the state dict stay what they are, and a deep copy is held too.
    """
    for held in module.modules():
        if held not in but:
            held.train = MethodType(_stay_eval, held)  # type: ignore[method-assign]
            held.training = False


def is_held(module: nn.Module) -> bool:
    """Return whether `hold_eval` holds a module."""
    return "train" in vars(module)


def release(module: nn.Module) -> None:
    """Undo `hold_eval`."""
    vars(module).pop("train", None)


def _stay_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    """`mode` still reaches what is below: not all of it need be held."""
    module.training = False
    for child in module.children():
        child.train(mode)
    return module
