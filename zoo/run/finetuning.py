"""`finetune`: a recipe's run, a line a step."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

from zoo.data.loader import ends_named
from zoo.recipe import Recipe
from zoo.registry import Registry, load_registry
from zoo.registry.contracts import Strategy
from zoo.run import steps
from zoo.run.exporting import export_run
from zoo.run.folder import (
    RunFolder,
    check_folder,
    existing_folder,
    is_of_this_launch,
    is_stub,
    open_folder,
    was_launched,
)
from zoo.run.launching import Result, launch, needs_launch, others_named
from zoo.run.logs import run_log
from zoo.run.network import input_spec
from zoo.run.origins import tell_changes
from zoo.run.resume import go_on, keep_to
from zoo.train.optim import make_optimizer

Aloud = Callable[[], AbstractContextManager[Any]]
"""What says aloud what a run logs, while it is entered."""


def finetune(
    recipe: Recipe,
    out: Path | None = None,
    *,
    registry: Registry | None = None,
    resume: bool = False,
    overwrite: bool = False,
    changes: Sequence[str] = (),
    aloud: Aloud = nullcontext,
) -> Result:
    """Run a recipe in the folder `out` (a new one below `runs/` when None) and return what it left.

    `registry` is that of all installed plugins when None. `resume` goes on from the newest whole checkpoint; the recipe
    must then be the run's own but for the keys in `changes`. The folder is opened, and an old run overwritten, only
    when everything before the first step went well. A device strategy of several processes has them launched, or joins
    those that torchrun or Slurm launched; rank 0 alone writes, and speaks through `aloud`.
    ZooError: anything that the user can mend. Interrupted: SIGINT or SIGTERM, after a checkpoint.
    """
    registry = registry or load_registry()
    if needs_launch(recipe):
        check_folder(out, resume=resume, overwrite=overwrite)
        return launch(recipe, out, registry, resume, overwrite, tuple(changes), aloud)
    with ExitStack() as held:
        strategy = steps.place(recipe)
        held.enter_context(others_named(strategy))
        held.enter_context(ends_named())
        held.enter_context(aloud() if strategy.is_main else nullcontext())
        return _finetune(recipe, strategy, out, registry, resume, overwrite, changes)


def _finetune(
    recipe: Recipe,
    strategy: Strategy,
    out: Path | None,
    registry: Registry,
    resume: bool,
    overwrite: bool,
    changes: Sequence[str],
) -> Result:
    with ExitStack() as held:
        log = held.enter_context(run_log())
        found = _opening(out, resume, overwrite) if strategy.is_main else None
        resume, overwrite = strategy.gather(found)[0]
        if resume and out:
            recipe = keep_to(recipe, existing_folder(out), registry, changes)
        elif recipe.path:
            tell_changes(recipe, RunFolder(recipe.path.parent))
        with steps.main_first(strategy):
            backbone, file = steps.fetch(recipe)
        spec = input_spec(recipe, backbone, file)
        gathered = held.enter_context(closing(steps.gather(recipe, spec, steps.share(recipe, strategy))))
        network, ledger = steps.assemble(recipe, backbone, file, gathered)
        steps.check_exports(recipe, network, gathered.preprocess.spec)
        phases = steps.freeze(recipe, network)
        recipe, strategy = steps.tune(recipe, strategy, network, phases, gathered)
        average = steps.settle(recipe, strategy, network)
        optimizer = make_optimizer(recipe.optim, network.model, phases)
        folder = None
        if strategy.is_main:
            folder = held.enter_context(open_folder(out, recipe.run.name, resume=resume, overwrite=overwrite))
            log.open(folder.path / "log.txt")
        folder = RunFolder(strategy.gather(folder and folder.path)[0])
        loop = steps.prepare(recipe, folder, strategy, network, phases, optimizer, average, gathered, file)
        if resume:
            go_on(loop, changes)
        if strategy.is_main:
            steps.write_facts(folder, recipe, strategy, ledger, gathered)
        ended = steps.fit(loop, folder)
        gathered.close()
        strategy.close()
        artefacts = export_run(folder, registry) if strategy.is_main else ()
        for artefact in artefacts:
            loop.job.events.artefact_written(event=artefact)
        return Result(folder.path, ended, artefacts, strategy.is_main)


def _opening(out: Path | None, resume: bool, overwrite: bool) -> tuple[bool, bool]:
    """Return whether to resume and whether to overwrite. RunError: see `check_folder`.

    A run that was killed before its first step has nothing to resume; one whose launcher starts it again has.
    """
    if out and is_stub(out) and (resume or was_launched()):
        return False, True
    if out and is_of_this_launch(out):
        return True, False
    check_folder(out, resume=resume, overwrite=overwrite)
    return resume, overwrite
