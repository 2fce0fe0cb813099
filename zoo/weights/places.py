"""Where weights and their cards lie."""

from pathlib import Path

from platformdirs import user_cache_path

from zoo.registry.contracts import Native, WeightsRequest

_PACKAGE = Path(__file__).resolve().parents[1]


def card_folders(recipe: Path | None) -> tuple[Path, ...]:
    """Return the folders searched for cards, in order: `weights/` here, beside the recipe's folder, and zoo's own."""
    beside = [recipe.resolve().parent.parent / "weights"] if recipe else []
    own = [_PACKAGE.parent / "weights", _PACKAGE / "_share" / "weights"]
    found: dict[Path, Path] = {}
    for folder in (Path("weights"), *beside, *own):
        found.setdefault(folder.resolve(), folder)
    return tuple(found.values())


def cache_folder() -> Path:
    """Return where downloads are kept."""
    return user_cache_path("zoo-finetune")


def weights_request(native: Native, recipe: Path | None) -> WeightsRequest:
    """Return what a weights source is told about the architecture that asks and about this machine."""
    return WeightsRequest(native, card_folders(recipe), cache_folder())
