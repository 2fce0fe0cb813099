"""`finetune`: a recipe's run, a line a step."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from zoo.recipe import Recipe
from zoo.registry import Registry, load_registry
from zoo.registry.events import ArtefactWritten, RunEnded
from zoo.run import steps
from zoo.run.folder import check_folder, existing_folder, is_stub, open_folder
from zoo.run.logs import run_log
from zoo.run.network import input_spec
from zoo.run.resume import go_on, keep_to
from zoo.run.trained import export_run
from zoo.train.optim import make_optimizer


@dataclass(frozen=True)
class Result:
    """What a finished run left: its folder, how it ended, and its artefacts."""

    folder: Path
    ended: RunEnded
    artefacts: tuple[ArtefactWritten, ...]


def finetune(
    recipe: Recipe,
    out: Path | None = None,
    *,
    registry: Registry | None = None,
    resume: bool = False,
    overwrite: bool = False,
    changes: Sequence[str] = (),
) -> Result:
    """Run a recipe in the folder `out` (a new one below `runs/` when None) and return what it left.

    `registry` is that of all installed plugins when None. `resume` goes on from the newest whole checkpoint; the recipe
    must then be the run's own but for the keys in `changes`. The folder is opened, and an old run overwritten, only
    when everything before the first step went well.
    ZooError: anything that the user can mend. Interrupted: SIGINT or SIGTERM, after a checkpoint.
    """
    registry = registry or load_registry()
    check_folder(out, resume=resume, overwrite=overwrite)
    if resume and out and is_stub(out):
        resume, overwrite = False, True
    if resume and out:
        recipe = keep_to(recipe, existing_folder(out), registry, changes)
    with ExitStack() as held:
        log = held.enter_context(run_log())
        strategy = steps.place(recipe)
        backbone, file = steps.fetch(recipe)
        gathered = held.enter_context(closing(steps.gather(recipe, input_spec(recipe, backbone, file))))
        network, ledger = steps.assemble(recipe, backbone, file, gathered)
        steps.check_exports(recipe, network, gathered.preprocess.spec)
        phases = steps.freeze(recipe, network)
        recipe, strategy = steps.tune(recipe, strategy, network, phases, gathered)
        optimizer = make_optimizer(recipe.optim, network.model, phases)
        folder = held.enter_context(open_folder(out, recipe.run.name, resume=resume, overwrite=overwrite))
        log.open(folder.path / "log.txt")
        loop = steps.prepare(recipe, folder, strategy, network, phases, optimizer, gathered, file)
        if resume:
            go_on(loop, changes)
        steps.write_facts(folder, recipe, strategy, ledger, gathered)
        ended = steps.fit(loop, folder)
        gathered.close()
        artefacts = export_run(folder, registry)
        for artefact in artefacts:
            loop.job.events.artefact_written(event=artefact)
        return Result(folder.path, ended, artefacts)
