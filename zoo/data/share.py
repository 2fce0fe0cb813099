"""Which part of every batch a process takes: the batches are the same for any number of processes.

A process that would have nothing to compute, or fewer images than batch norm needs, computes others of the batch beside
its own; they do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.data.dataset import Key
from zoo.data.loader import Batch


@dataclass(frozen=True)
class Plan:
    """The images that a process loads of a batch: `lead` (0 or 1) to mix the first with, its `own`, then filling."""

    keys: list[Key]
    own: frozenset[int]
    lead: int
    whole: int
    """Images of the batch over all processes."""


@dataclass(frozen=True)
class Part(Batch):
    """What a process has of a batch: of its rows, `lead` come first, then the `own` that count, then filling.

    `whole` is how many images the batch has over all processes, as planned.
    """

    own: int
    whole: int
    lead: int = 0


@dataclass(frozen=True)
class Share:
    """The part of process `rank` (from 0) of `processes`: a run of each batch's images, as `Tensor.tensor_split` cuts.

    `mixes` says that an image is mixed with the one before it, which is then loaded too. Where that one is bad, which
    image takes its place depends on the number of processes.
    """

    rank: int = 0
    processes: int = 1
    mixes: bool = False

    def plan(self, keys: Sequence[Key], least: int) -> Plan:
        """Return what to load of a batch (at least one image), for at least `least` to compute, or all that it has."""
        count = len(keys)
        size, more = divmod(count, self.processes)
        start = self.rank * size + min(self.rank, more)
        stop = start + size + (self.rank < more)
        lead = int(self.mixes and self.processes > 1)
        filling = max(0, min(least, count) - (stop - start))
        places = [*range(start - lead, stop), *(place % count for place in range(stop, stop + filling))]
        own = frozenset(index for _, index in keys[start:stop])
        return Plan([keys[place] for place in places], own, lead, count)

    def part(self, plan: Plan, batch: Batch) -> Part:
        """Return what was loaded for a plan: its bad images are missing, and what stands in for them is at the end."""
        indices = batch.indices.tolist()
        lead = int(bool(plan.lead) and indices[:1] == [plan.keys[0][1]])
        own = len({*indices[lead : lead + len(plan.own)]} & plan.own)
        # With several processes there are as many images as planned; one computes what there is.
        whole = plan.whole if self.processes > 1 else len(batch)
        return Part(batch.images, batch.targets, batch.indices, own, whole, lead)
