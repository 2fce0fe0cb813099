"""Learning-rate schedules: the rate is a pure function of the step, so a resume has nothing to restore."""

from math import cos, pi

from zoo.recipe import schema


def factor(schedule: schema.Schedule, step: int, total: int) -> float:
    """Return the share of the peak rate at optimiser step `step` (from 0) of `total`.

    Warm-up rises linearly over the first `warmup` of all steps; its first step already has a rate above zero. The shape
    after it is a function of how much of the rest is done, in [0, 1].
    """
    if isinstance(schedule, schema.OneCycleSchedule):
        return _one_cycle(schedule, step, total)
    warm = round(schedule.warmup * total)
    if step < warm:
        return (step + 1) / (warm + 1)
    return _shape(schedule, _share(step - warm, total - warm), step / total)


def _share(step: int, total: int) -> float:
    """How much is done, so that the first step has 0 and the last one 1."""
    return min(1.0, step / max(1, total - 1))


def _shape(schedule: schema.Schedule, done: float, of_run: float) -> float:
    match schedule:
        case schema.LinearSchedule():
            return _between(1.0, schedule.floor, done)
        case schema.CosineSchedule():
            return _cosine(1.0, schedule.floor, done)
        case schema.StepSchedule():
            return float(schedule.gamma ** sum(of_run >= milestone for milestone in schedule.milestones))
        case _:
            return 1.0


def _one_cycle(schedule: schema.OneCycleSchedule, step: int, total: int) -> float:
    """Step for step what `torch.optim.lr_scheduler.OneCycleLR` gives; it peaks a step early, too."""
    top, last = schedule.warmup * total - 1, total - 1  # steps, not whole ones
    if top > 0 and step <= top:
        return _cosine(schedule.start, 1.0, step / top)
    return _cosine(1.0, schedule.floor, min(1.0, (step - top) / (last - top)))


def _between(first: float, last: float, done: float) -> float:
    return first + (last - first) * done


def _cosine(first: float, last: float, done: float) -> float:
    return last + (first - last) * (1 + cos(pi * done)) / 2
