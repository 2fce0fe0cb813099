"""Which distributions a run's parts came from, and what has changed since."""

from collections.abc import Iterator

from zoo.errors import Problem, RunError
from zoo.recipe import Recipe
from zoo.registry.local import source_of
from zoo.registry.owner import COPIES, RECORD, Owner, read_owners
from zoo.run.folder import RunFolder, versions
from zoo.run.logs import tell


def owners(recipe: Recipe) -> dict[str, Owner]:
    """Return who offers the recipe's parts, as {"head linear": owner}."""
    return {f"{chosen.part.kind.name} {chosen.part.name}": chosen.owner for chosen in recipe.chosen()}


def keep_files(recipe: Recipe, folder: RunFolder) -> None:
    """Copy the local files that the recipe's parts came from into the run's folder, as they were read."""
    for owner in owners(recipe).values():
        if owner.file is not None:
            folder.write_bytes(f"{COPIES}/{owner.file.name}", source_of(owner.version))


def tell_changes(recipe: Recipe, folder: RunFolder) -> None:
    """Say, part by part, which distribution or version is not that of the run in `folder`, and what else is not."""
    for part, then, now in _changed(recipe, folder):
        tell("plugins", f"{part}: {then.short()} then, {now.short()} now")
    tell_versions(folder)


def tell_versions(folder: RunFolder) -> None:
    """Say which versions of zoo and of the libraries below it are not those of the run in `folder`."""
    if (folder.path / RECORD).exists():
        then, now = folder.read_json(RECORD)["versions"], versions()
        for name in sorted({*then, *now}):
            if then.get(name) != now.get(name):
                tell("versions", f"{name} {then.get(name, 'none')} then, {now.get(name, 'none')} now")


def refuse_changes(recipe: Recipe, folder: RunFolder) -> None:
    """Refuse to go on with a run whose parts are others by now: it would be another run. RunError."""
    problems = [
        Problem(
            f"{part} is not the run's: {then.short()} then, {now.short()} now",
            str(folder.path / RECORD),
            f"{then.get()}, or start a new run",
        )
        for part, then, now in _changed(recipe, folder)
    ]
    if problems:
        raise RunError.of(problems)


def _changed(recipe: Recipe, folder: RunFolder) -> Iterator[tuple[str, Owner, Owner]]:
    """Yield (part, owner then, owner now). zoo's own parts are of zoo's version, which is said by itself."""
    before = read_owners(folder.path)
    for part, now in owners(recipe).items():
        then = before.get(part, now)
        if not then.is_as(now) and not (then.is_zoo and now.is_zoo):
            yield part, then, now
