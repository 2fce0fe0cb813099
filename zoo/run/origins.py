"""Which distributions a run's parts came from, and what has changed since."""

from collections.abc import Iterator, Sequence

from zoo.errors import Problem, RunError
from zoo.recipe import Recipe
from zoo.registry import kinds
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
    then, now = _versions(folder), versions()
    for name in sorted({*then, *now} if then else ()):
        if then.get(name) != now.get(name):
            tell("versions", f"{name} {then.get(name, 'none')} then, {now.get(name, 'none')} now")


def _versions(folder: RunFolder) -> dict[str, str]:
    """What the folder's record says; nothing where there is none, or another program's: a recipe may lie anywhere."""
    recorded = folder.read_json(RECORD) if (folder.path / RECORD).exists() else None
    found = recorded.get("versions") if isinstance(recorded, dict) else None
    return found if isinstance(found, dict) else {}


def refuse_unknown(recipe: Recipe, folder: RunFolder) -> None:
    """Refuse to go on with a run that does not say who offered its parts, unless zoo offers all. RunError."""
    if read_owners(folder.path):
        return
    missing = f"{RECORD} is missing or has no owners"
    problems = [
        Problem(
            f"it is not known which version of {now.distribution} gave the run its {part}: {missing}",
            str(folder.path / RECORD),
            "start a new run",
        )
        for part, now in owners(recipe).items()
        if not now.is_zoo
    ]
    if problems:
        raise RunError.of(problems)


def refuse_changes(recipe: Recipe, folder: RunFolder, only: Sequence[kinds.Kind] = kinds.KINDS) -> None:
    """Refuse to go on with a run whose parts, of the kinds `only`, are others by now: it would be another. RunError."""
    problems = [
        Problem(
            f"{part} is not the run's: {then.short()} then, {now.short()} now",
            str(folder.path / RECORD),
            f"{then.get()}, or start a new run",
        )
        for part, then, now in _changed(recipe, folder)
        if part.partition(" ")[0] in {kind.name for kind in only}
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
