"""The url source: a file of the web, by its SHA-256."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import tomli_w
import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from tests.fileserver import FileServer, files
from zoo.errors import WeightsError
from zoo.registry.builtin.weights import UrlOptions
from zoo.registry.contracts import WeightsFile, WeightsRequest
from zoo.weights.cards import open_card, read_card
from zoo.weights.reading import read_tensors
from zoo.weights.url import SINGLE, build

__all__ = ["files"]  # the fixture


@pytest.fixture
def asking(request_: WeightsRequest, tmp_path: Path) -> WeightsRequest:
    """A request with a cache of its own."""
    return replace(request_, cache=tmp_path / "cache")


def _options(url: str, body: bytes) -> UrlOptions:
    return UrlOptions(url=url, sha256=sha256(body).hexdigest())


def test_a_file_is_downloaded_once(files: FileServer, asking: WeightsRequest, tensors: dict[str, Tensor]) -> None:
    body = save(tensors)
    files.files["/a/x.safetensors"] = body
    options = _options(f"{files.address}/a/x.safetensors?key=secret", body)
    options = options.model_copy(update={"rename": [("a", "b")]})
    found = build(options, asking)
    digest = sha256(body).hexdigest()
    path = asking.cache / "downloads" / digest / "x.safetensors"
    origin = f"url {files.address}/a/x.safetensors"
    assert found == WeightsFile(path, origin=origin, sha256=digest, rename=(("a", "b"),))
    read = read_tensors(found.path, found.sha256)
    assert all(torch.equal(read[key], tensors[key]) for key in tensors)
    assert build(options, asking) == found
    assert len(files.asked) == 1


def test_what_is_cached_needs_no_network(
    files: FileServer, asking: WeightsRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.files["/x.pth"] = b"1"
    options = _options(f"{files.address}/x.pth", b"1")
    found = build(options, asking)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert build(options, asking) == found


def test_wrong_bytes_are_refused(files: FileServer, asking: WeightsRequest) -> None:
    files.files["/x.pth"] = b"wrong"
    with pytest.raises(WeightsError) as caught:
        build(_options(f"{files.address}/x.pth", b"right"), asking)
    wrong, right = (sha256(body).hexdigest() for body in (b"wrong", b"right"))
    assert str(caught.value) == (
        f"x.pth came with sha256 {wrong}, not {right}: removed\n"
        "  mend:  they were another file's, or the file was replaced: check the address and the sha256"
    )


@pytest.mark.parametrize("name", ["", "x.zip", "model.safetensors.index.json"])
def test_an_address_of_no_checkpoint_is_refused_before_it_is_asked(
    name: str, files: FileServer, asking: WeightsRequest
) -> None:
    with pytest.raises(WeightsError) as caught:
        build(_options(f"{files.address}/{name}", b""), asking)
    assert str(caught.value) == (
        f"the address ends in {name!r}, which is no kind of checkpoint that zoo reads\n"
        f"  where: {files.address}/{name}\n"
        f"  mend:  one of: {', '.join(SINGLE)}"
    )
    assert files.asked == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://h/x.pth", "an address begins with http:// or https:// and a host"),
        ("file:///x.pth", "an address begins with http:// or https:// and a host"),
        ("http:///x.pth", "an address begins with http:// or https:// and a host"),
        ("http://me:pw@h/x.pth", "an address with a name and a password would be written into the run: leave them out"),
        ("http://h/a b.pth", "an address has no spaces and no letters beyond ASCII: write them as %XX"),
        ("http://h/ü.pth", "an address has no spaces and no letters beyond ASCII: write them as %XX"),
        ("http://h:99999/x.pth", "Port out of range 0-65535"),
    ],
)
def test_what_is_no_address_of_the_web_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        UrlOptions(url=url, sha256="0" * 64)
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {why}"]


def test_the_sha256_and_regular_expressions_are_checked() -> None:
    with pytest.raises(ValidationError) as caught:
        UrlOptions.model_validate({"url": "http://h/x.pth", "rename": [("(", "")]})
    assert {error["loc"][0]: error["msg"] for error in caught.value.errors()} == {
        "sha256": "Field required",
        "rename": "Value error, '(' is not a regular expression: missing ), unterminated subpattern at position 0",
    }


def test_a_card_may_point_to_an_address(
    files: FileServer, asking: WeightsRequest, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    body = save(tensors)
    files.files["/x.safetensors"] = body
    path = tmp_path / "tiny.toml"
    card = {
        "architecture": "timm/tiny",
        "origin": {"use": "url", "url": f"{files.address}/x.safetensors"},
        "bytes": len(body),
        "sha256": sha256(body).hexdigest(),
        "licence": "CC0-1.0",
        "made": "by this test",
    }
    path.write_text(tomli_w.dumps(card))
    found = open_card(read_card(path), path, asking)
    assert found.origin == f"card tiny, url {files.address}/x.safetensors"
    assert len(read_tensors(found.path, found.sha256)) == 5
