"""`zoo predict` and `zoo evaluate` on a bundle: which files are meant, what is printed, classes by name."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from zoo.errors import DataError, ZooError
from zoo.registry import load_registry
from zoo.run.bundles import load_any
from zoo.run.measuring import measure_folder
from zoo.run.predict import find_images


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """A finished run of two epochs, on photos of two classes."""
    from tests.runs.conftest import RECIPE, write_images
    from zoo.cli.main import run

    folder = tmp_path_factory.mktemp("predict")
    write_images(folder / "photos/train", 16)
    write_images(folder / "photos/val", 6)
    (folder / "tiny.toml").write_text(RECIPE.format(root=folder / "photos"))
    assert run(["finetune", str(folder / "tiny.toml"), "--out", str(folder / "run"), "--set", "run.epochs=3"]) == 0
    return folder


@pytest.fixture
def bundle(shared) -> Path:
    return shared / "run/export"


@pytest.fixture
def images(shared, tmp_path) -> Path:
    """Three good images, below two folders, and a bad one."""
    below = tmp_path / "images"
    (below / "more").mkdir(parents=True)
    shutil.copy(shared / "photos/val/above/00.png", below / "a.png")
    shutil.copy(shared / "photos/val/below/00.png", below / "b, or c.PNG")
    shutil.copy(shared / "photos/val/below/01.png", below / "more/d.png")
    (below / "notes.txt").write_text("no image")
    return below


def test_files_folders_globs_and_a_list(images, monkeypatch):
    monkeypatch.chdir(images.parent)
    names = [Path("images") / name for name in ("a.png", "b, or c.PNG", "more/d.png")]
    assert find_images(["images"]) == names
    assert find_images(["images/*.png"]) == names[:1]
    assert find_images(["images/**/*.png"]) == [names[0], names[2]]
    assert find_images(["-"], ["images/a.png\n", "\n", "images/b, or c.PNG"]) == names[:2]
    assert find_images(["nowhere.png", "images/a.png"]) == [Path("nowhere.png"), names[0]]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["-"], "there are no images to classify\n  mend:  give files, folders, globs, or - for a list of files"),
        (["empty"], "no images in the folder 'empty'\n  mend:  give a folder with image files at any depth"),
        (["*.jpg"], "no file matches '*.jpg'\n  mend:  ** goes through folders"),
    ],
)
def test_nothing_to_classify(tmp_path, monkeypatch, named, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZooError) as caught:
        find_images(named)
    assert str(caught.value) == message


def test_csv_json_and_text_say_the_same(zoo, bundle, images):
    status, out, err = zoo("predict", bundle, images, "--csv", "--top", "2")
    assert (status, err) == (0, "")
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[0] for row in rows[1:]] == [str(path) for path in find_images([str(images)])]
    assert all(abs(float(row[2]) + float(row[4]) - 1) < 1e-5 for row in rows[1:])
    found = json.loads(zoo("predict", bundle, images, "--json", "--top", "2")[1])
    for row, one in zip(rows[1:], found, strict=True):
        assert list(one["classes"]) == [row[1], row[3]]
        assert abs(one["classes"][row[1]] - float(row[2])) < 1e-5
    lines = zoo("predict", bundle, images)[1].splitlines()
    assert [line.split("  ")[-1].strip().split()[0] for line in lines] == [row[1] for row in rows[1:]]


def test_a_run_and_its_bundle_give_the_same_answers(zoo, shared, bundle, images):
    assert zoo("predict", bundle, images, "--json") == zoo("predict", shared / "run", images, "--json")


def test_bad_images_are_said_and_the_rest_is_done(zoo, bundle, images, monkeypatch):
    text = "\n".join([str(images / "a.png"), str(images / "notes.txt"), "nowhere.png", str(images / "more/d.png")])
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    status, out, err = zoo("predict", bundle, "-", "--csv")
    assert (status, len(out.splitlines())) == (2, 3)
    assert err == (
        f"error: cannot decode '{images / 'notes.txt'}': it is in no image format that Pillow reads\n"
        "  mend:  give an image file\n"
        "error: cannot decode 'nowhere.png': [Errno 2] No such file or directory: 'nowhere.png'\n"
        "  mend:  give an image file\n2 errors\n"
    )


def test_a_terminal_sees_how_many_are_done(zoo, bundle, images, monkeypatch):
    plain = zoo("predict", bundle, images, "--csv")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    status, out, err = zoo("predict", bundle, images, "--csv")
    assert (status, out) == plain[:2]
    assert "images" in err
    assert "100%" in err


def test_evaluate_matches_the_run(zoo, shared, bundle):
    status, out, err = zoo("evaluate", bundle, shared / "photos", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    metrics = json.loads(zoo("evaluate", shared / "run", "--json")[1])
    assert report["images"] == 12
    assert report["accuracy"] == pytest.approx(metrics["val/accuracy"])
    assert [one["name"] for one in report["classes"]] == ["above", "below"]
    assert sum(map(sum, report["confusion"])) == 12
    assert 0 <= report["ece"] <= 1
    lines = zoo("evaluate", bundle, shared / "photos/val")[1].splitlines()
    assert lines[0] == "images       12"
    assert lines[4].split() == ["class", "images", "precision", "recall"]


@pytest.fixture
def odd(shared, tmp_path) -> Path:
    """A folder where `below` is missing and `cats` are nothing that the model knows."""
    root = tmp_path / "odd"
    shutil.copytree(shared / "photos/val/above", root / "above")
    shutil.copytree(shared / "photos/val/below", root / "cats")
    return root


def test_missing_and_unknown_classes_are_decisions(zoo, bundle, odd):
    assert zoo("evaluate", bundle, odd) == (
        2, "", f"error: the model has no class 'cats'\n  where: {odd}\n"
        "  mend:  rename the folders, or decide: --unknown skip leaves their images out, wrong counts them as wrong\n"
        f"error: there are no images of the model's class 'below'\n  where: {odd}\n"
        "  mend:  add them, or decide: --missing allow measures the others\n2 errors\n",
    )  # fmt: skip
    skipped = json.loads(zoo("evaluate", bundle, odd, "--unknown", "skip", "--missing", "allow", "--json")[1])
    assert (skipped["images"], skipped["unknown"], skipped["missing"]) == (6, {"cats": 6}, ["below"])
    assert skipped["classes"][1]["recall"] is None
    wrong = json.loads(zoo("evaluate", bundle, odd, "--unknown", "wrong", "--missing", "allow", "--json")[1])
    assert wrong["images"] == 12
    assert wrong["accuracy"] == pytest.approx(skipped["accuracy"] / 2)
    assert zoo("evaluate", bundle, odd, "--unknown", "ignore")[2] == (
        "error: --unknown ignore is not understood\n  mend:  error or skip or wrong\n"
    )


def test_nothing_but_unknown_classes(bundle, shared, tmp_path):
    shutil.copytree(shared / "photos/val/above", tmp_path / "all/cats")
    predictor = load_any(bundle, load_registry(candidates=()), "cpu")
    report = measure_folder(predictor, tmp_path / "all", unknown="wrong", missing="allow")
    assert (report.images, report.accuracy, report.confusion) == (6, 0.0, ((0, 0), (0, 0)))


def test_classes_go_by_name_not_by_place(bundle, shared, tmp_path):
    """A folder that sorts differently: `aardvark` comes first and shifts every index."""
    root = tmp_path / "shifted"
    shutil.copytree(shared / "photos/val", root)
    shutil.copytree(shared / "photos/val/above", root / "aardvark")
    predictor = load_any(bundle, load_registry(candidates=()), "cpu")
    plain = measure_folder(predictor, shared / "photos/val")
    shifted = measure_folder(predictor, root, unknown="skip")
    assert (shifted.accuracy, shifted.confusion) == (plain.accuracy, plain.confusion)


def test_confusion_counts_what_was_called_what(bundle, tmp_path):
    """All images of both classes are the same image: one class is called by both names."""
    for name in ("above", "below"):
        (tmp_path / "same" / name).mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (40, 40), (120, 10, 10)).save(tmp_path / "same" / name / f"{index}.png")
    predictor = load_any(bundle, load_registry(candidates=()), "cpu")
    report = measure_folder(predictor, tmp_path / "same")
    called = 0 if predictor(tmp_path / "same/above/0.png").name == "above" else 1
    assert [row[called] for row in report.confusion] == [3, 3]
    assert (report.accuracy, report.classes[called].precision) == (0.5, 0.5)
    assert report.classes[1 - called].precision is None


def test_a_bad_image_is_said_and_not_counted(zoo, bundle, odd):
    (odd / "above/bad.png").write_bytes(b"no image")
    status, out, err = zoo("evaluate", bundle, odd, "--unknown", "skip", "--missing", "allow")
    assert (status, out.splitlines()[0]) == (2, "images       6")
    assert err.startswith(f"error: cannot decode '{odd / 'above/bad.png'}': ")


def test_no_folder_of_classes(bundle, tmp_path):
    predictor = load_any(bundle, load_registry(candidates=()), "cpu")
    with pytest.raises(DataError) as caught:
        measure_folder(predictor, tmp_path)
    assert str(caught.value) == (
        f"there are no class folders\n  where: {tmp_path}\n  mend:  one folder a class, its name the class's"
    )
