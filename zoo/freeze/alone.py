"""Freezing for anybody's own training loop: a policy applied to any model, and a proof that it held.

plan = zoo.freeze.apply(model, "stages", frozen=["conv1", "bn1", "layer1"])
with zoo.freeze.audited(model):
    train(model)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError
from torch import nn

from zoo.errors import RunError, ZooError
from zoo.freeze.digests import digests, moved
from zoo.freeze.layout import make_layout, statistics
from zoo.freeze.names import some, under
from zoo.freeze.plan import BatchNormRule, ModeRule, Plan, Rules, make_plan
from zoo.freeze.still import follow, is_held
from zoo.registry import FreezePart, kinds, load_registry
from zoo.registry.contracts import Adapter, FreezePolicy


def apply(
    model: nn.Module,
    policy: str | FreezePolicy,
    *,
    head: str | None = None,
    stages: Sequence[str] = (),
    bn: BatchNormRule = "auto",
    mode: ModeRule = "auto",
    epoch: int = 0,
    **options: Any,
) -> Plan:
    """Freeze `model` as a policy says for `epoch` (from 0), and return the plan: `plan.rates` has every rate.

    `policy` is a name as in a recipe's `[freeze]`, with its `options`, or a function of one's own. `head` is the prefix
    of the classifier: that of the last nn.Linear when None. `stages` are prefixes that cover the rest, input side
    first: the model's children when empty. What is fixed stays so whatever calls `train()`; applying another policy
    lets go of it. A policy with adapters ("lora") adds them to the model; `zoo.freeze.merge` folds them in.
    ZooError: there is no such policy or option, or it does not fit the model.
    """
    adapter = None
    if isinstance(policy, str):
        policy, adapter = _named(policy, options)
    elif options:
        raise ZooError(f"options are for a policy by name: {', '.join(options)}", hint="build them into the function")
    heads = [_last_linear(model) if head is None else head]
    names = [name for name, _ in model.named_parameters() if not under(name, heads[0])]
    found = list(stages) or list(dict.fromkeys(name.partition(".")[0] for name in names))
    layout = make_layout(model, found, heads)
    if adapter is not None:
        adapter.attach(model, layout)
        layout = make_layout(model, found, heads)
    plan = make_plan(model, layout, policy(layout, epoch), Rules(bn, mode))
    follow(model, plan)
    return plan


@contextmanager
def audited(model: nn.Module, may_stay: Sequence[str] = ()) -> Iterator[None]:
    """Prove that what is frozen when the block begins keeps its bits in it, and that all else moves.

    Frozen are parameters with requires_grad=False, and the statistics of batch norms that are fixed or have no
    parameter that trains. `may_stay` are globs of trained parameters that need not move. RunError names the tensors
    that broke it; an exception of the block itself goes first.
    """
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    before = digests(model, _frozen(model))
    start = digests(model, trained)
    yield
    broken = moved(before, digests(model, before))
    if broken:
        hint = "zoo.freeze.fix_batchnorm fixes statistics; a frozen parameter must have requires_grad=False throughout"
        raise RunError(f"frozen, but moved: {some(broken)}", hint=hint)
    gone = set(moved(start, digests(model, start)))
    stayed = [name for name in trained if name not in gone and not any(fnmatchcase(name, glob) for glob in may_stay)]
    if stayed:
        hint = "give them to the optimiser, freeze them, or name them in may_stay"
        raise RunError(f"to be trained, but not moved: {some(stayed)}", hint=hint)


def _named(name: str, options: dict[str, Any]) -> tuple[FreezePolicy, Adapter | None]:
    part = load_registry().find(kinds.FREEZE, name).part
    try:
        given = part.options(**options)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        what = f"freeze policy {name!r}: {where}: {detail['msg']}"
        raise ZooError(what, hint=f"its options: {', '.join(part.options.model_fields) or 'none'}") from error
    policy: FreezePolicy = part.builder()(given)
    return policy, part.build_adapter(given) if isinstance(part, FreezePart) else None


def _last_linear(model: nn.Module) -> str:
    linear: list[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ZooError("the model has no nn.Linear to be its head", hint="name the head: head = PREFIX")
    return linear[-1]


def _frozen(model: nn.Module) -> list[str]:
    fixed = [
        name
        for name, module in statistics(model).items()
        if is_held(module) or not any(parameter.requires_grad for parameter in module.parameters())
    ]
    parameters = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    return [*parameters, *(name for name, _ in model.named_buffers() if name.rpartition(".")[0] in set(fixed))]
