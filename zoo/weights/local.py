"""What is known of a recipe's weights without asking anyone for them: all of a file that is here, else its origin."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub as hf

from zoo.recipe import Chosen
from zoo.recipe.schema import WeightsTable
from zoo.registry.builtin.weights import CardOptions, HubOptions, UrlOptions
from zoo.registry.contracts import WeightsFile, WeightsRequest
from zoo.weights.cache import place_of
from zoo.weights.cards import Card, HubOrigin, PackageOrigin, UrlOrigin, find_card, open_card, read_card
from zoo.weights.download import file_name, shown

LOCAL = ("none", "file", "package", "run")
"""Sources that read what is on this machine."""


@dataclass(frozen=True)
class Known:
    """The file that a run would load, None for a random start. While it is not here, `missing` says so in words.

    Its `path` then means nothing.
    """

    file: WeightsFile | None
    missing: str = ""


def known_weights(chosen: Chosen[WeightsTable], request: WeightsRequest) -> Known:
    """Return what the source would give, as far as this machine knows; nothing is downloaded and nobody is asked.

    WeightsError: what should be here is not, or is not what the recipe or the card says.
    """
    options = chosen.options
    if chosen.part.name in LOCAL:
        return Known(chosen.build(request))
    if isinstance(options, CardOptions):
        path = find_card(options.card, request.cards)
        return _of_card(read_card(path), path, request)
    if isinstance(options, HubOptions):
        return _at(_on_hub(options), f"hub {options.repo}", options.sha256)
    if isinstance(options, UrlOptions):
        here, origin = _downloaded(options.url, options.sha256, request), f"url {shown(options.url)}"
        return _at(here, origin, options.sha256, rename=tuple(options.rename), align=options.align)
    return Known(WeightsFile(Path(), origin=chosen.part.name), "asked for when the run begins")


def _of_card(card: Card, path: Path, request: WeightsRequest) -> Known:
    origin = card.origin
    if origin is None or isinstance(origin, PackageOrigin):
        return Known(open_card(card, path, request))
    here = _on_hub(origin) if isinstance(origin, HubOrigin) else _downloaded(origin.url, card.sha256, request)
    if here is not None:
        return Known(open_card(card.model_copy(update={"origin": None, "file": here.absolute()}), path, request))
    source = f"url {shown(origin.url)}" if isinstance(origin, UrlOrigin) else f"hub {origin.repo}"
    return _at(None, f"card {path.stem}, {source}", card.sha256, input=card.input.spec())


def _at(path: Path | None, origin: str, sha256: str | None, **more: Any) -> Known:
    return Known(WeightsFile(path or Path(), origin, sha256, **more), "" if path else "not here yet")


def _on_hub(options: HubOptions | HubOrigin) -> Path | None:
    """The file in Hugging Face's cache, of the revision as it was when the hub was last asked."""
    found = hf.try_to_load_from_cache(options.repo, options.file, revision=options.revision)
    return Path(found) if isinstance(found, str) else None


def _downloaded(url: str, sha256: str, request: WeightsRequest) -> Path | None:
    path = place_of(request.cache, file_name(url), sha256)
    return path if path.is_file() else None
