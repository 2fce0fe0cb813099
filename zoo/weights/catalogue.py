"""The cards that can be found: what each describes, and whether its bytes are here; without torch or any network."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.errors import WeightsError
from zoo.registry.contracts import Native, WeightsRequest
from zoo.weights.cache import place_of
from zoo.weights.cards import Card, HubOrigin, PackageOrigin, UrlOrigin, find_card, open_card, read_card
from zoo.weights.download import file_name, shown


@dataclass(frozen=True)
class Listed:
    """A card by name, and `path`, where its bytes are or would be: None while nobody knows before a download.

    `card` is None when it cannot be read; `problem` says why, or what is wrong with the bytes.
    """

    name: str
    place: Path
    card: Card | None = None
    path: Path | None = None
    problem: str = ""

    @property
    def here(self) -> bool:
        """Whether the bytes are on this machine, as many as the card says."""
        return self.path is not None and self.path.is_file() and not self.problem

    @property
    def source(self) -> str:
        """Where the bytes come from: "file NAME", "package NAME", "hub REPO", "url ADDRESS"."""
        origin = self.card.origin if self.card else None
        if isinstance(origin, PackageOrigin):
            return f"package {origin.package}"
        if isinstance(origin, HubOrigin):
            return f"hub {origin.repo}"
        if isinstance(origin, UrlOrigin):
            return f"url {shown(origin.url)}"
        return f"file {self.card.file}" if self.card else ""

    @property
    def metric(self) -> str:
        """The figure that the weights reach, or ""."""
        known = self.card.metric if self.card else None
        return f"{known.name} {known.value:g}" if known else ""

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for scripts."""
        card = self.card
        return {
            "name": self.name,
            "card": str(self.place),
            "architecture": card and card.architecture,
            "bytes": card and card.bytes,
            "sha256": card and card.sha256,
            "licence": card and card.licence,
            "metric": card and card.metric and card.metric.model_dump(),
            "source": self.source or None,
            "here": self.here,
            "path": str(self.path) if self.here else None,
            "problem": self.problem or None,
        }


@dataclass(frozen=True)
class Fetched:
    """A card's file, whole and of the SHA-256 that the card names."""

    name: str
    path: Path
    bytes: int
    sha256: str
    licence: str
    architecture: str
    origin: str


def list_cards(folders: Sequence[Path], cache: Path) -> tuple[Listed, ...]:
    """Return the cards in `folders` by name; of two with one name that of the first folder, as `find_card` has it."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder.glob("*.toml"):
            found.setdefault(path.stem, path)
    return tuple(_listed(name, found[name], cache) for name in sorted(found))


def fetch(name: str, folders: Sequence[Path], cache: Path) -> Fetched:
    """Return the file of the card `name` (or of a card's path), downloaded unless it is here, after reading all of it.

    WeightsError: no such card, its file cannot be had or read, or its size or SHA-256 is another.
    """
    from zoo.weights.reading import read_checkpoint  # imports torch, which listing cards does without

    place = find_card(name, folders)
    card = read_card(place)
    found = open_card(card, place, WeightsRequest(_native(card), tuple(folders), cache))
    digest = read_checkpoint(found.path, found.sha256).sha256
    return Fetched(place.stem, found.path, card.bytes, digest, card.licence, card.architecture, found.origin)


def _listed(name: str, place: Path, cache: Path) -> Listed:
    try:
        card = read_card(place)
    except (WeightsError, OSError) as error:
        return Listed(name, place, problem=_said(error))
    try:
        path = _path(card, place, cache)
    except (OSError, ValueError) as error:  # a ValueError: no package, or no file of the hub, can have such a name
        return Listed(name, place, card, problem=str(error))
    size = path.stat().st_size if path and path.is_file() else card.bytes
    problem = "" if size == card.bytes else f"{path} has {size:,} bytes, the card says {card.bytes:,}"
    return Listed(name, place, card, path, problem)


def _path(card: Card, place: Path, cache: Path) -> Path | None:
    if isinstance(card.origin, PackageOrigin):
        return _in_package(card.origin)
    if isinstance(card.origin, HubOrigin):
        return _in_hub_cache(card.origin)
    if isinstance(card.origin, UrlOrigin):
        return place_of(cache, file_name(card.origin.url), card.sha256)
    return place.parent / (card.file or "")


def _in_package(origin: PackageOrigin) -> Path | None:
    try:
        return Path(str(metadata.distribution(origin.package).locate_file(str(origin.file))))
    except metadata.PackageNotFoundError:
        return None


def _in_hub_cache(origin: HubOrigin) -> Path | None:
    import huggingface_hub as hf  # slow to import, and few cards need it

    found = hf.try_to_load_from_cache(origin.repo, origin.file, revision=origin.revision)
    return Path(found) if isinstance(found, str) else None


def _said(error: WeightsError | OSError) -> str:
    if isinstance(error, OSError):
        return f"the card cannot be read: {error.strerror}"
    return "; ".join(problem.what for problem in error.problems)


def _native(card: Card) -> Native:
    """The sources that a card can name ask nothing of the architecture: it need not be one that is installed."""
    library, _, arch = card.architecture.partition("/")

    def build(classes: int) -> Any:
        raise WeightsError(f"{card.architecture} is not built to fetch its weights")

    return Native(library, arch, None, build, "")
