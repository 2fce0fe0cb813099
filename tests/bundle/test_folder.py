"""A bundle on disk: a folder or a zip, damaged, hostile, or made by what is not installed."""

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bundle.made import formats, refusal, write
from zoo import __version__
from zoo.bundle import opened
from zoo.bundle.folder import pack
from zoo.errors import ZooError
from zoo.registry import Registry
from zoo.run.bundles import load, verify

HINT = "  mend:  give the folder or zip of `zoo export`"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, registry) -> Path:
    """A bundle of two formats; not to be changed."""
    path = tmp_path_factory.mktemp("whole") / "bundle"
    write(path, formats(registry, "safetensors", "torchscript"))
    return path


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


@pytest.fixture
def packed(whole, tmp_path) -> Path:
    pack(whole, tmp_path / "bundle.zip")
    return tmp_path / "bundle.zip"


def open_it(path: Path, registry: Registry) -> Any:
    with opened(path, registry) as found:
        return found.manifest


def test_a_folder_and_its_zip_are_the_same(folder, packed, registry) -> None:
    assert open_it(folder, registry) == open_it(packed, registry)
    assert [outcome.ok for outcome in verify(packed, registry=registry)] == [True, True]


def test_a_zip_is_unpacked_while_it_is_open_and_no_longer(packed, registry) -> None:
    with opened(packed, registry) as found:
        assert (found.path / "golden/expected.json").is_file()
        path = found.path
    assert not path.exists()
    with pytest.raises(KeyError), opened(packed, registry) as found:
        path = found.path
        raise KeyError
    assert not path.exists()


def test_a_predictor_outlives_the_zip(packed, registry) -> None:
    predictor = load(packed, device="cpu", registry=registry)
    assert predictor(torch.zeros(3, 40, 40, dtype=torch.uint8)).name in predictor.classes


def test_nothing_there(tmp_path, registry) -> None:
    assert refusal(lambda: open_it(tmp_path / "no", registry)) == (
        f"there is no '{tmp_path}/no'\n  mend:  `zoo export RUN` makes a bundle, in RUN/export"
    )
    assert refusal(lambda: open_it(tmp_path, registry)) == (
        f"'{tmp_path}' is no bundle: it has no model.json\n  mend:  `zoo export RUN` makes one, in RUN/export"
    )


def test_a_file_that_is_no_zip(tmp_path, registry) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"no zip")
    assert refusal(lambda: open_it(path, registry)) == f"'{path}' is no bundle: File is not a zip file\n{HINT}"


def zipped(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_a_zip_without_model_json(tmp_path, registry) -> None:
    path = zipped(tmp_path / "x.zip", **{"bundle/model.json": "{}"})
    assert refusal(lambda: open_it(path, registry)) == f"'{path}' is no bundle: it has no model.json\n{HINT}"


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "C:/outside", "..\\outside"])
def test_a_zip_that_points_outside_writes_nothing_there(tmp_path, monkeypatch, registry, name: str) -> None:
    inside = tmp_path / "deep" / "deeper"
    inside.mkdir(parents=True)
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(inside))
    path = zipped(tmp_path / "x.zip", **{name: "x", "model.json": "{}"})
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ZooError, match=r"^model\.json: "):
        open_it(path, registry)
    assert set(tmp_path.rglob("*")) | {inside} == before
    assert not Path("/outside").exists()


def test_a_link_in_a_zip_is_a_file(tmp_path, registry) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("model.json")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    assert refusal(lambda: open_it(path, registry)).startswith("model.json cannot be read: Expecting value")


def test_a_zip_that_unpacks_to_too_much(packed, monkeypatch, registry) -> None:
    monkeypatch.setattr("zoo.bundle.folder.LARGEST_ZIP", 1000)
    said = f"'{packed}' is no bundle: it unpacks to more than 1,000 bytes"
    assert refusal(lambda: open_it(packed, registry)) == f"{said}\n{HINT}"


def test_a_zip_that_lies_about_its_size(tmp_path, registry) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", b" " * 100_000)
    data = path.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(data)
    said = f"'{path}' is no bundle: Bad CRC-32 for file 'model.json'"
    assert refusal(lambda: open_it(path, registry)) == f"{said}\n{HINT}"


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (6, b"\x01\x00", "File .*model.json.* is encrypted, password required for extraction"),
        (8, b"\x63\x00", "That compression method is not supported"),
    ],
)
def test_a_zip_that_cannot_be_unpacked(tmp_path, registry, offset: int, value: bytes, message: str) -> None:
    path = zipped(tmp_path / "x.zip", **{"model.json": "{}"})
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[offset : offset + 2] = data[central + 2 + offset : central + 4 + offset] = value
    path.write_bytes(data)
    assert re.fullmatch(f"'{path}' is no bundle: {message}\n{HINT}", refusal(lambda: open_it(path, registry)))


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_spoilt_zip_is_refused_and_never_a_fault(data: Any, tmp_path, registry) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", data.draw(st.sampled_from([0, 8, 12, 14]))) as archive:
        archive.writestr("model.json", "{" + " " * 50)
    spoilt = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(spoilt) - 1), min_size=1, max_size=4)):
        spoilt[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(spoilt))
    with pytest.raises(ZooError):
        open_it(path, registry)


def test_a_zip_is_the_same_for_the_same_files(whole, tmp_path) -> None:
    for name in ("a", "b"):
        copy = shutil.copytree(whole, tmp_path / name)
        (copy / "README.md").touch()
        (copy / "README.md").chmod(0o600 if name == "a" else 0o644)
        pack(copy, tmp_path / f"{name}.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def damage(folder: Path, name: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_file_is_named_and_the_others_are_still_checked(folder, registry) -> None:
    damage(folder, "model.safetensors")
    said = "model.safetensors has other bytes than when the bundle was made"
    wanted = f"{said}\n  where: {folder}\n  mend:  export the run again"
    assert refusal(lambda: verify(folder, registry=registry)) == wanted
    assert refusal(lambda: load(folder, registry=registry)) == wanted
    assert load(folder, artefact="model.torchscript.pt", registry=registry).classes


def test_a_missing_file(folder, registry) -> None:
    (folder / "model.torchscript.pt").unlink()
    said = f"model.torchscript.pt is missing\n  where: {folder}\n  mend:  export the run again"
    assert refusal(lambda: verify(folder, registry=registry)) == said
    assert [outcome.ok for outcome in verify(folder, runtime="timm", registry=registry)] == [True]


def test_a_damaged_golden_image(folder, registry) -> None:
    damage(folder, "golden/grey.png")
    assert refusal(lambda: verify(folder, registry=registry)) == (
        "the golden images cannot be read: grey.png has other bytes than when the bundle was made\n"
        f"  where: {folder}/golden\n  mend:  export the run again"
    )


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def artefacts(folder: Path, **changes: Any) -> list[dict[str, Any]]:
    first, *rest = json.loads((folder / "model.json").read_text(encoding="utf-8"))["artefacts"]
    return [{**first, **changes}, *rest]


def test_another_format_number(folder, registry) -> None:
    edit(folder, format=2)
    assert refusal(lambda: verify(folder, registry=registry)) == (
        f"model.json: format: input should be 1\n  where: {folder}/model.json\n  mend:  export the run again"
    )


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd"])
def test_model_json_names_no_file_outside(folder, registry, name: str) -> None:
    edit(folder, artefacts=artefacts(folder, files={name: "0" * 64}))
    assert refusal(lambda: verify(folder, registry=registry)).startswith(
        f"model.json: artefacts.0.files.{name}.[key]: "
    )


def test_an_exporter_that_is_not_installed(folder, registry) -> None:
    edit(folder, artefacts=artefacts(folder, exporter="onnxx"))
    assert refusal(lambda: verify(folder, registry=registry)) == (
        f"there is no export 'onnxx'\n  where: {folder}, of parts from zoo (zoo-finetune {__version__})\n"
        "  mend:  one of: delta, hub, pt2, pth, safetensors, torchscript"
    )


def test_options_of_another_version(folder, registry) -> None:
    edit(folder, artefacts=artefacts(folder, options={"level": 3}))
    assert refusal(lambda: verify(folder, registry=registry)) == (
        "the exporter 'safetensors' does not take the options in model.json: "
        "1 validation error for SafetensorsOptions\n"
        "  mend:  the bundle was made with another version of it"
    )


def test_a_backbone_that_is_not_to_be_had(folder, registry) -> None:
    edit(folder, backbone={"use": "timm", "options": {"arch": "test_resnet", "more": 1}})
    assert refusal(lambda: verify(folder, registry=registry)) == (
        "the backbone 'timm' does not take the options in model.json: 1 validation error for TimmOptions\n"
        "  mend:  the bundle was made with another version of it"
    )
    edit(folder, backbone={"use": "nothing", "options": {}})
    assert refusal(lambda: verify(folder, registry=registry)).splitlines()[0] == "there is no backbone 'nothing'"


def test_choosing_a_runtime(whole, registry) -> None:
    with opened(whole, registry) as found:
        assert [artefact.file for artefact in found.choose("torch")] == ["model.torchscript.pt"]
        assert len(found.choose()) == 2
        assert refusal(lambda: found.choose("onnxruntime")) == (
            f"the bundle has nothing for onnxruntime\n  where: {whole}\n  mend:  it has: timm, torch"
        )


def test_what_exporters_are_told(whole, registry) -> None:
    with opened(whole, registry) as found:
        told = found.described()
    assert (told.native.identity, told.classes) == ("timm/test_resnet", ("leaf", "sky", "stone"))
    assert told.input == found.manifest.spec
    assert found.recipe.read_text() == "format = 1\n"
