"""Make a model follow a Plan: requires_grad, and modules that stay in eval mode whatever calls `train()`."""

from types import MethodType

from torch import nn

from zoo.freeze.plan import Plan


def apply(model: nn.Module, plan: Plan) -> None:
    """Set requires_grad by the plan's rates, and hold its batch norms and still modules in eval mode.

    What an earlier plan held and this one does not goes back to the mode of the model.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(plan.rates[name] is not None)
    for module in model.modules():
        release(module)
    model.train(model.training)
    for name in plan.still | plan.fixed_norms:
        hold_eval(model.get_submodule(name))


def hold_eval(module: nn.Module) -> None:
    """Put a module and all below it in eval mode for good.

    The method is replaced on each instance, so `train()` on the module itself, on one below it, on a parent, or from a
    callback leaves them alone; the class, the names and the state dict stay what they are, and a deep copy is held too.
    """
    for held in module.modules():
        held.train = MethodType(_stay_eval, held)  # type: ignore[method-assign]
    module.train()


def release(module: nn.Module) -> None:
    """Undo `hold_eval`."""
    vars(module).pop("train", None)


def _stay_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    return nn.Module.train(module, False)
