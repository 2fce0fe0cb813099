"""The frontier: how far from the input side a network gives the same output for the same image, step after step.

What lies before it is frozen, in eval mode and free of chance, so it need not be computed again.
"""

from dataclasses import dataclass

from zoo.freeze.names import in_heads, under
from zoo.freeze.plan import Plan
from zoo.registry.contracts import Layout


@dataclass(frozen=True)
class Frontier:
    """The stages before it, input side first; `whole` when they are the whole backbone."""

    stages: tuple[str, ...]
    whole: bool


def find_frontier(layout: Layout, plan: Plan) -> Frontier:
    """Return the longest prefix of the stages in which nothing trains, no statistic is tracked and all is in eval mode.

    At rate zero a stage does not count: its gradients are asked for. Whether a module draws random numbers in eval mode
    cannot be read off a plan; who computes features once has to compare two passes.
    """
    stages: list[str] = []
    for stage in layout.stages:
        if not _is_done(layout, plan, stage):
            break
        stages.append(stage)
    whole = len(stages) == len(layout.stages) and layout.root.rstrip(".") in plan.still
    return Frontier(tuple(stages), whole)


def _is_done(layout: Layout, plan: Plan, stage: str) -> bool:
    own = [name for name in layout.parameters if under(name, stage) and not in_heads(layout, name)]
    frozen = all(plan.rates[name] is None for name in own)
    has_mode = stage not in own  # a bare parameter, such as a class token, is in no mode
    still = not has_mode or any(under(stage, held) for held in plan.still)
    return frozen and still and not any(under(norm, stage) for norm in plan.tracked_norms)
