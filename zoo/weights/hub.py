"""Weights on the Hugging Face Hub, or on a mirror of it (HF_ENDPOINT)."""

import os
import threading
from pathlib import Path

import huggingface_hub as hf
from huggingface_hub import constants, errors

from zoo.errors import WeightsError
from zoo.registry.builtin.weights import HubOptions
from zoo.registry.contracts import WeightsFile, WeightsRequest

PATIENCE = 4.0  # seconds for the hub's first answer, unless HF_HUB_ETAG_TIMEOUT says otherwise
# The library's own errors derive from those of its transport, which changed: requests, then httpx, then httpx2.
BROKEN = (OSError, *errors.HfHubHTTPError.__bases__)
WAYS_OUT = (
    'download it elsewhere and name it with use = "file"; or use = "card" with weights that are here; '
    "or fill the cache where there is a network, then set HF_HUB_OFFLINE=1"
)


def build(options: HubOptions, request: WeightsRequest) -> WeightsFile:
    """Return the file, downloaded into Hugging Face's own cache unless it lies there.

    HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and HF_TOKEN count as they do elsewhere. Without a network a file in the cache
    is used. WeightsError: not to be had (within PATIENCE when nothing answers), not there, or not for everyone.
    """
    path = _fetch(options, os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/"))
    origin = f"hub {options.repo}@{_commit(path)}"
    return WeightsFile(path, origin=origin, sha256=options.sha256)


def _fetch(options: HubOptions, endpoint: str) -> Path:
    """Return the path in the cache; the newest of the revision when the hub answers, else what is there."""
    if _offline():
        return _cached(options, endpoint, "HF_HUB_OFFLINE is set")
    try:
        _require_answer(options, endpoint)
        return _download(options, endpoint, local=False)
    except _SilentError as silence:
        return _cached(options, endpoint, str(silence))
    except BROKEN as error:
        raise _refused(options, endpoint, error) from error


class _SilentError(Exception):
    """Nothing answers at the endpoint."""


def _offline() -> bool:
    return constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _cached(options: HubOptions, endpoint: str, why: str) -> Path:
    try:
        return _download(options, endpoint, local=True)
    except errors.LocalEntryNotFoundError:
        what = f"{options.file} is not in the cache, and the hub cannot be asked: {why}"
        raise WeightsError(what, where=_address(options, endpoint), hint=WAYS_OUT) from None


def _download(options: HubOptions, endpoint: str, local: bool) -> Path:
    path = hf.hf_hub_download(
        options.repo, options.file, revision=options.revision, endpoint=endpoint, local_files_only=local
    )
    return Path(path)


def _require_answer(options: HubOptions, endpoint: str) -> None:
    """Raise _SilentError unless the endpoint answers anything at all within the time.

    Asked in a thread that nobody waits for: no timeout of the library's covers the lookup of the host's name.
    """
    said: list[str] = []
    patience = PATIENCE
    if constants.HF_HUB_ETAG_TIMEOUT != constants.DEFAULT_ETAG_TIMEOUT:
        patience = float(constants.HF_HUB_ETAG_TIMEOUT)
    asking = threading.Thread(target=_ask, args=(_address(options, endpoint), 2 * patience, said), daemon=True)
    asking.start()
    asking.join(patience)
    if said != ["answered"]:
        raise _SilentError(said[0] if said else f"no answer within {patience:g} s")


def _ask(address: str, patience: float, said: list[str]) -> None:
    try:
        hf.get_hf_file_metadata(address, timeout=patience)
    except errors.HfHubHTTPError:
        pass
    except BROKEN as error:
        said.append(_first_line(error))
        return
    said.append("answered")


def _refused(options: HubOptions, endpoint: str, error: Exception) -> WeightsError:
    # The hub's library hides what the server said behind "not found in the cache".
    said = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else None
    what, hint = f"{options.file} could not be downloaded: {_first_line(said or error)}", WAYS_OUT
    if isinstance(error, errors.GatedRepoError):
        what, hint = f"{options.repo} asks for its terms to be accepted", "accept them, then `hf auth login`"
    elif isinstance(error, errors.RepositoryNotFoundError):
        what, hint = f"the hub shows no repository {options.repo}", "check the name; if private, `hf auth login`"
    elif isinstance(error, errors.RevisionNotFoundError):
        what, hint = f"{options.repo} has no revision {options.revision!r}", "name a branch, tag or commit"
    elif isinstance(error, errors.EntryNotFoundError) and said is None:
        what, hint = f"{options.repo} has no file {options.file}", "look at the repository's list of files"
    return WeightsError(what, where=_address(options, endpoint), hint=hint)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _address(options: HubOptions, endpoint: str) -> str:
    return str(hf.hf_hub_url(options.repo, options.file, revision=options.revision, endpoint=endpoint))


def _commit(path: Path) -> str:
    parts = path.parts
    return parts[parts.index("snapshots") + 1][:12] if "snapshots" in parts else "unknown"
