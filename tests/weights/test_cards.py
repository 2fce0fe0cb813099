"""Cards: found, read, and held to what they say."""

from hashlib import sha256
from pathlib import Path

import pytest
import tomli_w
import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.registry.builtin.weights import CardOptions
from zoo.registry.contracts import InputSpec, WeightsFile, WeightsRequest
from zoo.weights.card import build
from zoo.weights.cards import read_card
from zoo.weights.reading import read_tensors


@pytest.fixture
def card(tensors: dict[str, Tensor], tmp_path: Path) -> dict[str, object]:
    """A whole card for a checkpoint beside it."""
    path = tmp_path / "tiny.pth"
    torch.save(tensors, path)
    content = path.read_bytes()
    return {
        "architecture": "timm/tiny",
        "file": path.name,
        "bytes": len(content),
        "sha256": sha256(content).hexdigest(),
        "licence": "CC0-1.0",
        "made": "by this test",
    }


def _open(card: dict[str, object], folder: Path, request: WeightsRequest) -> WeightsFile:
    path = folder / "tiny.toml"
    path.write_text(tomli_w.dumps(card))
    return build(CardOptions(card=str(path)), request)


def test_a_card_tells_all_it_knows(card: dict[str, object], tmp_path: Path, request_: WeightsRequest) -> None:
    more = {
        "classes": ["a", "b", "c"],
        "rename": [["^x", "y"]],
        "input": {"size": [96, 64], "mean": [0.5, 0.5, 0.5], "interpolation": "bilinear", "crop_pct": 1.0},
        "metric": {"name": "accuracy", "value": 0.5, "dataset": "digits, val", "source": "this test"},
    }
    assert _open({**card, **more}, tmp_path, request_) == WeightsFile(
        tmp_path / "tiny.pth",
        origin=f"card tiny, file {tmp_path / 'tiny.pth'}",
        sha256=str(card["sha256"]),
        architecture="timm/tiny",
        rename=(("^x", "y"),),
        input=InputSpec((96, 64), mean=(0.5, 0.5, 0.5), interpolation="bilinear", crop_pct=1.0),
        classes=("a", "b", "c"),
        licence="CC0-1.0",
    )


def test_classes_may_lie_in_a_file(card: dict[str, object], tmp_path: Path, request_: WeightsRequest) -> None:
    with pytest.raises(WeightsError) as caught:
        _open({**card, "classes_file": "classes.txt"}, tmp_path, request_)
    assert str(caught.value) == (
        f"classes_file classes.txt: No such file or directory\n  where: {tmp_path / 'tiny.toml'}"
    )
    (tmp_path / "classes.txt").write_text("tabby cat\nowl\n", encoding="utf-8")
    assert _open({**card, "classes_file": "classes.txt"}, tmp_path, request_).classes == ("tabby cat", "owl")


def test_another_size_is_refused(card: dict[str, object], tmp_path: Path, request_: WeightsRequest) -> None:
    size = card["bytes"]
    with pytest.raises(WeightsError) as caught:
        _open({**card, "bytes": 7}, tmp_path, request_)
    assert str(caught.value) == (
        f"tiny.pth has {size:,} bytes, the card says 7\n  where: {tmp_path / 'tiny.toml'}\n"
        "  mend:  the file is incomplete or another one: get it again, or correct the card"
    )


def test_another_sha256_is_refused_when_read(card: dict[str, object], tmp_path: Path, request_: WeightsRequest) -> None:
    found = _open({**card, "sha256": "0" * 64}, tmp_path, request_)
    with pytest.raises(WeightsError, match=f"tiny.pth has sha256 {card['sha256']}, not {'0' * 64}"):
        read_tensors(found.path, found.sha256)


def test_a_missing_card_names_the_nearest(request_: WeightsRequest) -> None:
    with pytest.raises(WeightsError) as caught:
        build(CardOptions(card="tf_efficientnet_lite.imagenet"), request_)
    assert str(caught.value) == (
        f"there is no card 'tf_efficientnet_lite.imagenet'\n  where: {request_.cards[0]}\n"
        "  mend:  did you mean 'tf_efficientnet_lite0.imagenet'?"
    )


def test_every_problem_of_a_card_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('architecture = "resnet"\nbytes = 0\nsha256 = "x"\nlicence = "MIT"\nmade = "so"\nfil = "x.pth"\n')
    with pytest.raises(WeightsError) as caught:
        read_card(path)
    assert [problem.what for problem in caught.value.problems] == [
        "architecture: String should match pattern '^[\\w-]+/[\\w.-]+$'",
        "bytes: Input should be greater than or equal to 1",
        "sha256: String should match pattern '^[0-9a-f]{64}$'",
        "fil: Extra inputs are not permitted",
    ]
    assert {problem.where for problem in caught.value.problems} == {str(path)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": None}, "Value error, give `file` or `[origin]`, one of them"),
        (
            {"origin": {"use": "hub", "repo": "a/b"}},
            "Value error, give `file` or `[origin]`, one of them",
        ),
        (
            {"classes": ["a"], "classes_file": "x.txt"},
            "Value error, give `classes` or `classes_file`, not both",
        ),
        (
            {"rename": [["(", ""]]},
            "rename: Value error, '(' is not a regular expression: missing ), unterminated subpattern at position 0",
        ),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(
    change: dict[str, object], message: str, card: dict[str, object], tmp_path: Path, request_: WeightsRequest
) -> None:
    changed = {key: value for key, value in {**card, **change}.items() if value is not None}
    with pytest.raises(WeightsError) as caught:
        _open(changed, tmp_path, request_)
    assert str(caught.value) == f"{message}\n  where: {tmp_path / 'tiny.toml'}"


def test_what_is_not_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("architecture = resnet")
    with pytest.raises(WeightsError) as caught:
        read_card(path)
    assert str(caught.value) == f"the card is not TOML: Invalid value (at line 1, column 16)\n  where: {path}"
