"""How long steps wait for checkpoints: those that are written in the background, and those that are waited for.

ResNet-50, AdamW and a moving average (377 MB a checkpoint), fp32, 96 px, batch 8: the loop as `zoo finetune` makes it.
A turn is 25 steps and one checkpoint, which is begun after the first of them. Turns without checkpoints, with one in
the background, and with one that is waited for at once alternate; figures are medians of the turns.

- wait: what steps wait for it, as a share of the turn. All that saving does in the thread that trains counts: looking
  whether weights are finite, the copy, and the rest of the write where the turn's end meets it. The bar is for this.
- longer: how much longer than the turn without that came before. On a CPU the writing thread takes time of the cores
  that compute.
- write: from the beginning of the copy until the checkpoint stands, flushed to disk; in the background, until the end
  of the step in which it came to stand.

AMD EPYC, 2 cores, other work on them; one thread (OMP_NUM_THREADS=1), torch 2.14.1; steps of 0.81 s, 4 turns of each:
background  wait 0.16 s = 0.7 %, longer  +9.4 %, write 2.3 s
waited for  wait 1.29 s = 5.7 %, longer +12.4 %, write 1.3 s
"longer" has the noise of that other work. An earlier run of 3 turns, with more of it, gave waits of 0.7 and 4.8 %; its
medians were 1.4 % shorter and 47 % longer than without.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from zoo.memory import settle

settle()  # as the command does: before torch is there

import torch  # noqa: E402
from machine import describe  # noqa: E402

from zoo.recipe import resolve  # noqa: E402
from zoo.recipe.read import Document  # noqa: E402
from zoo.registry import load_registry  # noqa: E402
from zoo.run import steps  # noqa: E402
from zoo.run.folder import RunFolder  # noqa: E402
from zoo.run.network import input_spec  # noqa: E402
from zoo.train.loop import Loop  # noqa: E402
from zoo.train.optim import make_optimizer  # noqa: E402

BAR = 0.05
STEPS, TURNS = 25, 7
TABLE = {
    "format": 1,
    "run": {"name": "checkpoints", "epochs": 1000, "batch_size": 8, "ema": 0.999},
    "backbone": {"use": "timm", "arch": "resnet50"},
    "data": {"use": "digits", "image_size": 96, "workers": 0},
    "export": [],
    "device": {"device": "cpu", "precision": "fp32", "channels_last": True},
}


@dataclass(frozen=True)
class Turn:
    """Seconds: of the whole, of what steps waited, and until the checkpoint stood."""

    whole: float
    wait: float
    write: float


def make_loop(folder: Path) -> Loop:
    """Return the loop of a run, as `zoo finetune` makes it."""
    recipe = resolve(Document(TABLE), load_registry(candidates=()))
    strategy = steps.place(recipe)
    backbone, file = steps.fetch(recipe)
    gathered = steps.gather(recipe, input_spec(recipe, backbone, file))
    network, _ = steps.assemble(recipe, backbone, file, gathered)
    phases = steps.freeze(recipe, network)
    average = steps.settle(recipe, strategy, network)
    optimizer = make_optimizer(recipe.optim, network.model, phases)
    run = RunFolder(folder)
    return steps.prepare(recipe, run, strategy, network, phases, optimizer, average, gathered, file)


def take_turn(loop: Loop, count: int, save: Callable[[], object] | None) -> Turn:
    """Take the steps of a turn; `save` is called after the first."""
    checkpoints, wait, stood = loop.job.checkpoints, 0.0, 0.0
    begun = started = time.perf_counter()
    for number, part in enumerate(islice(loop.job.train.epoch(0), count)):
        loop._step(part)
        loop._after_step()
        now = time.perf_counter()
        if save and not number:
            begun = now
            save()
            wait = time.perf_counter() - now
        if save and not stood and not checkpoints.is_writing:
            stood = time.perf_counter()
    now = time.perf_counter()
    loop._settle()
    ended = time.perf_counter()
    return Turn(ended - started, wait + ended - now, (stood or ended) - begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps for each checkpoint (default {STEPS})")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"turns of each kind (default {TURNS})")
    chosen = parser.parse_args()
    print(f"{describe()}; {torch.get_num_threads()} threads")
    with TemporaryDirectory(dir=".") as folder:
        loop = make_loop(Path(folder))
        loop.job.model.train()
        loop._enter(loop.job.phases[0])
        kinds: dict[str, Callable[[], object] | None] = {
            "none": None,
            "background": loop._save,
            "waited for": lambda: (loop._save(), loop._settle()),
        }
        found: dict[str, list[Turn]] = {name: [] for name in kinds}
        for number in range(chosen.turns + 1):
            for name, save in kinds.items():
                turn = take_turn(loop, chosen.steps, save)
                if number:  # the first warms up
                    found[name].append(turn)
        newest = loop.job.checkpoints.paths()[-1]
        size = sum(file.stat().st_size for file in newest.iterdir())
    alone = [turn.whole for turn in found.pop("none")]
    every = f"every {chosen.steps} steps of {median(alone) / chosen.steps:.2f} s"
    print(f"{size / 1e6:.0f} MB {every}, {chosen.turns} turns of each")
    shares = {name: median(turn.wait / turn.whole for turn in turns) for name, turns in found.items()}
    for name, turns in found.items():
        wait, write = median(turn.wait for turn in turns), median(turn.write for turn in turns)
        longer = median(turn.whole / other for turn, other in zip(turns, alone, strict=True)) - 1
        said = f"wait {wait:.2f} s = {shares[name]:.1%}, longer {longer:+.1%}, write {write:.1f} s"
        print(f"{name:<10}  {said}")
    print(f"bar: wait of {BAR:.0%} in the background")
    return int(shares["background"] > BAR)


if __name__ == "__main__":
    sys.exit(main())
