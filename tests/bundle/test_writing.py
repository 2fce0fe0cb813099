"""Writing: all or nothing, whatever goes wrong; the same bytes for the same model."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bundle.made import SPEC, Faulty, facts, faulty, formats, make_model_of, refusal, write
from tests.bundle.photos import CLASSES, photos
from zoo.bundle.golden import make_golden, read_golden
from zoo.bundle.manifest import read_manifest
from zoo.bundle.writing import Format, Reference, write_bundle
from zoo.errors import ZooError
from zoo.export.native import build_network
from zoo.run.bundles import verify

MEND = "  where: PATH\n  mend:  mend this, then `zoo export RUN`"
REPORT = "nothing was written; please report this"


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return what lies below a folder, hidden files too."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_bundle_has_these_files_and_passes(tmp_path, registry) -> None:
    written = write(tmp_path / "new" / "bundle", formats(registry, "hub", "pth"))
    folder = tmp_path / "new" / "bundle"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            "README.md",
            "config.json",
            "golden",
            "load.json",
            "model.json",
            "model.pth",
            "model.safetensors",
            "recipe.toml",
        ]
    )
    assert [(one.exporter, one.files) for one in written] == [
        ("hub", (folder / "config.json", folder / "model.safetensors")),
        ("pth", (folder / "model.pth",)),
    ]
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o644}
    assert folder.stat().st_mode & 0o777 == 0o755
    assert list(tmp_path.glob("**/.*")) == []
    golden, manifest = read_golden(folder), read_manifest(folder)
    assert set(golden.logits) == {"model", "config.json", "model.pth"}
    assert manifest.artefacts[0].bytes == sum(
        (folder / name).stat().st_size for name in ("config.json", "model.safetensors")
    )
    assert json.loads((folder / "load.json").read_text()) == {"loaded": ["conv1.weight"]}
    assert all(outcome.ok for outcome in verify(folder, registry=registry))


def test_the_same_model_gives_the_same_bytes_in_a_folder_and_in_a_zip(tmp_path, registry) -> None:
    chosen = formats(registry, "safetensors", "torchscript")
    for name in ("a", "b", "a.zip", "b.zip"):
        write(tmp_path / name, chosen)
    assert everything(tmp_path / "a") == everything(tmp_path / "b")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: data for name, data in everything(tmp_path / "a").items() if data is not None
        }


def test_a_zip_is_said_to_be_one_file(tmp_path, registry) -> None:
    (written,) = write(tmp_path / "new" / "x.zip", formats(registry, "hub"))
    assert written.files == (tmp_path / "new" / "x.zip",)
    assert (tmp_path / "new" / "x.zip").stat().st_mode & 0o777 == 0o644


APART = "faulty: the artefact's logits differ from the model's by {} of the largest, more than 1e-05"


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "zeros": ({"spoil": torch.zeros_like}, f"{APART.format(1)}\n  mend:  {REPORT}"),
    "NaN": ({"spoil": lambda logits: logits * torch.nan}, f"{APART.format('nan')}\n  mend:  {REPORT}"),
    "infinity": ({"spoil": lambda logits: logits / 0}, f"{APART.format('inf')}\n  mend:  {REPORT}"),
    "batches": (
        {"spoil": lambda logits: logits * len(logits)},
        f"an image gives other logits alone than in a batch\n  mend:  {REPORT}",
    ),
    "refuses": ({"fail": {"check": ZooError("not this one")}}, "not this one"),
    "disk full": (
        {"fail": {"write": OSError(28, "No space left on device")}},
        f"the bundle cannot be written: [Errno 28] No space left on device\n{MEND}",
    ),
    "cannot read": (
        {"fail": {"read": OSError(5, "Input/output error")}},
        f"the bundle cannot be written: [Errno 5] Input/output error\n{MEND}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["", ".zip"])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_all_or_nothing(tmp_path, registry, fault: str, before: bool, suffix: str) -> None:
    keys, message = FAULTS[fault]
    good, path = formats(registry, "safetensors"), tmp_path / f"bundle{suffix}"
    if before:
        write(path, good)
    stood = everything(tmp_path)
    said = refusal(lambda: write(path, [*good, faulty(**keys)]))
    assert said.replace(str(path), "PATH") == message
    assert everything(tmp_path) == stood


@pytest.mark.parametrize("what", ["check", "write", "read"])
def test_a_fault_of_an_exporter_is_a_traceback_and_leaves_nothing(tmp_path, what: str) -> None:
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "bundle", [faulty(fail={what: ZeroDivisionError()})])
    assert everything(tmp_path) == {}


def test_a_small_difference_is_recorded_and_a_larger_refused(tmp_path) -> None:
    (written,) = write(tmp_path / "bundle", [faulty(spoil=lambda logits: logits * (1 + 5e-6))])
    assert 4e-6 < written.difference < 6e-6
    assert read_manifest(tmp_path / "bundle").artefacts[0].difference == written.difference
    with pytest.raises(
        ZooError, match=r"^faulty: the artefact's logits differ from the model's by 0\.01 of the largest"
    ):
        write(tmp_path / "bundle", [faulty(spoil=lambda logits: logits * 1.01)])


def test_two_exporters_with_one_name_and_the_same_bytes(tmp_path, registry) -> None:
    written = write(tmp_path / "bundle", formats(registry, "safetensors", "hub"))
    assert len(written) == 2
    digests = [artefact.files["model.safetensors"] for artefact in read_manifest(tmp_path / "bundle").artefacts]
    assert digests[0] == digests[1]


def test_two_exporters_with_one_name_and_other_bytes(tmp_path) -> None:
    chosen = [faulty("one", files={"model.x": b"1"}), faulty("two", files={"model.x": b"2"})]
    assert refusal(lambda: write(tmp_path / "bundle", chosen)) == (
        "the exporters 'one' and 'two' both write model.x, with other bytes\n"
        "  where: [[export]]\n  mend:  leave one of them out"
    )
    assert everything(tmp_path) == {}


@pytest.mark.parametrize(
    "name", [".hidden", "a b", "modèle.x", "model.json", "recipe.toml", "load.json", "README.md", "golden", "model"]
)
def test_names_that_no_artefact_has(tmp_path, name: str) -> None:
    said = refusal(lambda: write(tmp_path / "bundle", [faulty(files={name: b"x"})]))
    assert said == f"the exporter 'faulty' writes {name!r}, which is no name for an artefact"
    assert everything(tmp_path) == {}


def rounding(max_drop: float) -> Format:
    made = Faulty()
    made.max_drop = max_drop
    return Format("faulty", {}, made)


def test_accuracy_is_measured_where_an_exporter_rounds_coarsely(tmp_path) -> None:
    write(tmp_path / "bundle", [faulty(), rounding(0.1)], accuracy=lambda network: 0.75)
    assert [artefact.accuracy for artefact in read_manifest(tmp_path / "bundle").artefacts] == [None, 0.75]


@pytest.mark.parametrize(("after", "refused"), [(0.75, False), (0.5, False), (0.45, True), (float("nan"), True)])
def test_accuracy_may_fall_so_far(tmp_path, after: float, refused: bool) -> None:
    measured = iter([0.75, after])
    if not refused:
        write(tmp_path / "bundle", [rounding(0.25)], accuracy=lambda network: next(measured))
        return
    assert refusal(lambda: write(tmp_path / "bundle", [rounding(0.25)], accuracy=lambda network: next(measured))) == (
        f"faulty: accuracy falls from 0.7500 to {after:.4f}, by more than 0.25\n  where: [[export]]\n"
        "  mend:  nothing was written; calibrate on more images, or allow more"
    )
    assert everything(tmp_path) == {}


FOREIGN = "there is something else already: {}\n  where: {}\n  mend:  name a new folder for the bundle with --out"


def test_a_folder_with_something_else_is_not_replaced(tmp_path, registry) -> None:
    path = tmp_path / "documents"
    path.mkdir()
    for place in range(6):
        (path / f"{place}.txt").write_text("mine")
    said = refusal(lambda: write(path, formats(registry, "safetensors")))
    assert said == FOREIGN.format("0.txt, 1.txt, 2.txt, 3.txt, …", path)
    assert len(everything(path)) == 6


def test_nor_a_bundle_to_which_something_was_added(tmp_path, registry) -> None:
    path = tmp_path / "bundle"
    write(path, formats(registry, "safetensors"))
    (path / "notes.txt").write_text("mine")
    assert refusal(lambda: write(path, formats(registry, "safetensors"))) == FOREIGN.format("notes.txt", path)


def test_nor_a_folder_with_somebody_elses_model_json(tmp_path, registry) -> None:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "model.json").write_text("{}")
    assert refusal(lambda: write(path, formats(registry, "safetensors"))) == FOREIGN.format("model.json", path)


@pytest.mark.parametrize("name", ["photo.jpg", "photos.zip"])
def test_nor_a_file_that_is_no_bundle(tmp_path, registry, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"mine")
    assert refusal(lambda: write(path, formats(registry, "safetensors"))) == FOREIGN.format(name, path)
    assert path.read_bytes() == b"mine"


def test_nor_a_folder_that_is_called_a_zip(tmp_path, registry) -> None:
    path = tmp_path / "photos.zip"
    path.mkdir()
    assert refusal(lambda: write(path, formats(registry, "safetensors"))) == FOREIGN.format("photos.zip", path)


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_a_former_bundle_is_replaced_whole(tmp_path, registry, name: str) -> None:
    write(tmp_path / name, formats(registry, "safetensors", "pth"))
    write(tmp_path / name, formats(registry, "safetensors"))
    outcomes = verify(tmp_path / name, registry=registry)
    assert [outcome.artefact for outcome in outcomes] == ["model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_empty_folder_is_filled(tmp_path, registry) -> None:
    write(tmp_path, formats(registry, "safetensors"))
    assert (tmp_path / "model.json").is_file()


def test_a_folder_that_cannot_be_written_to(tmp_path, registry) -> None:
    (tmp_path / "file").write_text("")
    said = refusal(lambda: write(tmp_path / "file" / "bundle", formats(registry, "safetensors")))
    assert said.startswith("the bundle cannot be written: [Errno ")


def test_the_model_s_own_logits_are_those_of_the_images_bytes(tmp_path, registry) -> None:
    model, part = make_model_of()
    images = make_golden(photos(2), CLASSES, SPEC)
    eager = build_network(model)
    reference = Reference(eager, images, lambda network: 1.0)
    write_bundle(tmp_path / "x", model, formats(registry, "pth"), reference, facts(part))
    golden = read_golden(tmp_path / "x")
    assert golden.images == images
    assert golden.logits["model"] == golden.logits["model.pth"]
    assert [len(row) for row in golden.logits["model"]] == [3] * 10
    shutil.rmtree(tmp_path / "x")
