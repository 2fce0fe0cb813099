"""model.json: a closed schema, and a chain from the base weights to these."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bundle.made import formats, refusal, write
from zoo.bundle import opened
from zoo.bundle.manifest import LINKS as ORDER
from zoo.bundle.manifest import (
    Artefact,
    Link,
    Manifest,
    Part,
    chained,
    check_chain,
    is_file_name,
    read_manifest,
)
from zoo.registry.contracts import InputSpec
from zoo.run.bundles import verify

DIGEST = "0" * 64
ARTEFACT: dict[str, Any] = {
    "exporter": "pth", "options": {}, "runtime": "timm", "takes": "normalised", "files": {"model.pth": DIGEST},
    "bytes": 7, "tolerance": 1e-5, "difference": 0.0, "accuracy": None,
}  # fmt: skip
HALVES = [0.5, 0.5, 0.5]
TABLE: dict[str, Any] = {
    "format": 1, "name": "tiny", "architecture": "timm/x", "build": "x()", "backbone": {"use": "timm", "options": {}},
    "input": {"size": [32, 48], "mean": HALVES, "std": HALVES, "interpolation": "lanczos", "crop_pct": 0.9},
    "classes": ["a", "Äpfel"], "data_classes": ["a", "Äpfel"], "weights": "best", "checkpoint": "step-1",
    "metrics": {"val/accuracy": 0.5}, "licence": None, "lineage": [], "artefacts": [ARTEFACT], "zoo": "0.1.0",
}  # fmt: skip


def put(folder: Path, **changes: Any) -> Path:
    table = {key: value for key, value in {**TABLE, **changes}.items() if value is not ...}
    (folder / "model.json").write_text(json.dumps(table), encoding="utf-8")
    return folder


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    manifest = read_manifest(put(tmp_path))
    assert manifest.spec == InputSpec((32, 48), (0.5,) * 3, (0.5,) * 3, "lanczos", 0.9)
    assert manifest.artefacts[0].file == "model.pth"
    (tmp_path / "model.json").write_text(manifest.to_json(), encoding="utf-8")
    assert read_manifest(tmp_path) == manifest
    assert '"Äpfel"' in manifest.to_json()


NAMES = st.text(max_size=12)
DIGESTS = st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest())
FILES = st.dictionaries(
    st.sampled_from(["model.pt2", "a", "config.json", "model.pt2.data", "x_1-2"]), DIGESTS, min_size=1, max_size=3
)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(NAMES, min_size=1, max_size=5),
    FILES,
    st.lists(st.tuples(NAMES, NAMES, DIGESTS), max_size=5),
    st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
def test_round_trip(classes: list[str], files: Any, links: Any, metrics: dict[str, float]) -> None:
    manifest = Manifest(
        name="x", architecture="timm/x", build="x()", backbone=Part(use="timm", options={"arch": "x"}),
        input=TABLE["input"], classes=classes, data_classes=classes, weights="ema", checkpoint="step-1",
        metrics=metrics, licence=None, lineage=chained(links), zoo="1",
        artefacts=[Artefact(**{**ARTEFACT, "files": files})],
    )  # fmt: skip
    assert Manifest.model_validate(json.loads(manifest.to_json())) == manifest
    assert list(Manifest.model_validate(json.loads(manifest.to_json())).artefacts[0].files) == list(files)
    assert not any("its place" in fault for fault in check_chain(manifest, {}))


def test_an_artefact_is_found_by_its_main_file(tmp_path: Path) -> None:
    two = {**ARTEFACT, "files": {"config.json": DIGEST, "model.pth": DIGEST}}
    manifest = read_manifest(put(tmp_path, artefacts=[ARTEFACT, two]))
    assert manifest.find("config.json") == manifest.artefacts[1]
    assert refusal(lambda: manifest.find("x")) == "the bundle has no 'x'\n  mend:  it has model.pth, config.json"


def of_artefact(**changes: Any) -> dict[str, Any]:
    return {"artefacts": [{**ARTEFACT, **changes}]}


WORDS = "input should be 'nearest', 'bilinear', 'bicubic' or 'lanczos'"
NUMBER = "input should be a valid integer, unable to parse string as an integer"
ONE = "should have at least 1 item after validation, not 0"
SHA = "string should match pattern '^[0-9a-f]{64}$'"
NAME = "string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$'"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": 1}, "more: extra inputs are not permitted"),
        ({"classes": ...}, "classes: field required"),
        ({"format": 2}, "format: input should be 1"),
        ({"classes": []}, f"classes: list {ONE}"),
        ({"artefacts": []}, f"artefacts: list {ONE}"),
        ({"weights": "first"}, "weights: input should be 'best', 'last' or 'ema'"),
        (of_artefact(takes="bytes"), "artefacts.0.takes: input should be 'normalised' or 'decoded'"),
        (of_artefact(more=1), "artefacts.0.more: extra inputs are not permitted"),
        (of_artefact(files={}), f"artefacts.0.files: dictionary {ONE}"),
        (of_artefact(files={"../x": DIGEST}), f"artefacts.0.files.../x.[key]: {NAME}"),
        (of_artefact(files={"/etc/passwd": DIGEST}), f"artefacts.0.files./etc/passwd.[key]: {NAME}"),
        (of_artefact(files={"a/b": DIGEST}), f"artefacts.0.files.a/b.[key]: {NAME}"),
        (of_artefact(files={".x": DIGEST}), f"artefacts.0.files..x.[key]: {NAME}"),
        (of_artefact(files={"x": "0"}), f"artefacts.0.files.x: {SHA}"),
        ({"backbone": {"use": "timm"}}, "backbone.options: field required"),
        ({"input": {"interpolation": "cubic"}}, f"interpolation: {WORDS}"),
        ({"input": {"size": [32]}}, "size.1: field required"),
        ({"input": {"size": ["a", 3]}}, f"size.0: {NUMBER}"),
        ({"input": {"mean": 0.5}}, "mean: input should be a valid tuple"),
    ],
)
def test_what_does_not_belong_is_refused(tmp_path: Path, changes: Any, message: str) -> None:
    assert refusal(lambda: read_manifest(put(tmp_path, **changes))) == (
        f"model.json: {message}\n  where: {tmp_path}/model.json\n  mend:  export the run again"
    )


NONE = "its input has a size, crop_pct or std that no image can be given"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (json.dumps({**TABLE, "input": {"std": [1, math.nan, 1]}}), NONE),
        (json.dumps({**TABLE, "input": {"size": [0, 32]}}), NONE),
        (json.dumps({**TABLE, "input": {"crop_pct": 0}}), NONE),
        (json.dumps({**TABLE, "input": {"crop_pct": 1.1}}), NONE),
        (json.dumps({**TABLE, "input": {"std": [1, 0, 1]}}), NONE),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "model.json").write_text(text)
    assert refusal(lambda: read_manifest(tmp_path)) == (
        f"model.json cannot be read: {message}\n  where: {tmp_path}/model.json\n  mend:  export the run again"
    )


def test_no_text_at_all_and_no_file(tmp_path: Path) -> None:
    assert refusal(lambda: read_manifest(tmp_path)) == (
        f"'{tmp_path}' is no bundle: it has no model.json\n  mend:  `zoo export RUN` makes one, in RUN/export"
    )
    (tmp_path / "model.json").write_bytes(b"\xff\xfe")
    assert refusal(lambda: read_manifest(tmp_path)).startswith("model.json cannot be read: 'utf-8' codec can't decode")
    (tmp_path / "model.json").write_text("[]")
    assert refusal(lambda: read_manifest(tmp_path)).startswith("model.json: : input should be a valid dictionary")


ORIGINS = ("x.pth", "load.json", "recipe.toml", "zoo", "photos", "best")
LINKS = chained([(what, ORIGINS[place], f"{place}" * 64) for place, what in enumerate(ORDER)])


def of(links: list[Link]) -> Manifest:
    return Manifest.model_validate({**TABLE, "lineage": [link.model_dump() for link in links]})


def test_every_link_is_bound_to_those_before_it() -> None:
    first = f"\nbase weights\nx.pth\n{'0' * 64}"
    assert LINKS[0].chain == hashlib.sha256(first.encode()).hexdigest()
    second = f"{LINKS[0].chain}\nledger\nload.json\n{'1' * 64}"
    assert LINKS[1].chain == hashlib.sha256(second.encode()).hexdigest()
    assert check_chain(of(LINKS), {"recipe": "2" * 64}) == []


@pytest.mark.parametrize("change", [{"sha256": "d" * 64}, {"origin": "another"}])
@pytest.mark.parametrize("place", range(6))
def test_another_digest_breaks_the_chain_at_its_place(place: int, change: dict[str, str]) -> None:
    links = list(LINKS)
    links[place] = links[place].model_copy(update=change)
    assert check_chain(of(links), {}) == [
        f"lineage: {links[place].what}: its place in the chain is not that of what it says"
    ]


def test_a_link_left_out_breaks_the_chain_after_it() -> None:
    order = ", ".join(ORDER)
    assert check_chain(of([LINKS[0], *LINKS[2:]]), {}) == [
        f"lineage: it is base weights, recipe, parts, data, weights, not {order}",
        "lineage: recipe: its place in the chain is not that of what it says",
    ]
    assert check_chain(of([]), {}) == [f"lineage: it is empty, not {order}"]


def test_another_file_than_the_chains() -> None:
    assert check_chain(of(LINKS), {"recipe": "d" * 64, "ledger": "1" * 64}) == [
        "lineage: recipe: the file in the bundle is another"
    ]


def test_verify_says_what_is_wrong_with_the_lineage(tmp_path: Path, registry: Any) -> None:
    write(tmp_path / "x", formats(registry, "safetensors"))
    (tmp_path / "x/recipe.toml").write_text("format = 2\n")
    table = json.loads((tmp_path / "x/model.json").read_text())
    table["lineage"][4]["sha256"] = "0" * 64
    (tmp_path / "x/model.json").write_text(json.dumps(table))
    assert refusal(lambda: verify(tmp_path / "x", registry=registry)) == (
        f"lineage: recipe: the file in the bundle is another\n  where: {tmp_path}/x\n  mend:  export the run again\n"
        f"lineage: data: its place in the chain is not that of what it says\n  where: {tmp_path}/x\n"
        "  mend:  export the run again"
    )


def test_the_lineage_of_a_bundle(tmp_path: Path, registry: Any) -> None:
    write(tmp_path / "x", formats(registry, "safetensors"))
    with opened(tmp_path / "x", registry) as found:
        lineage = found.manifest.lineage
        assert found.broken_lineage() == []
    assert [(link.what, link.origin) for link in lineage] == [
        ("base weights", "file x.pth"),
        ("ledger", "load.json"),
        ("recipe", "recipe.toml"),
        ("parts", "zoo (zoo-finetune 0.1.0)"),
        ("data", "imagefolder: train 36, val 15"),
        ("weights", "best, step-00000007"),
    ]
    assert lineage[-1].sha256 == hashlib.sha256((tmp_path / "x/model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("model.pt2", True), ("a-b_c.1", True), ("", False), (".x", False), ("a/b", False), ("..", False),
        ("a\n", False),
        ("-x", False), ("a b", False), ("a\\b", False), ("modèle", False),
    ],
)  # fmt: skip
def test_names_of_files(name: str, fits: bool) -> None:
    assert is_file_name(name) is fits
