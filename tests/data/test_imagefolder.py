import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from zoo.data.checks import check_classes
from zoo.data.imagefolder import build
from zoo.errors import DataError
from zoo.registry.builtin.data import ImageFolderOptions
from zoo.registry.contracts import DataSource, Split


def fill(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(root / name, format="PNG")
    return root


def load(root: Path, seed: int = 0, **options: Any) -> DataSource:
    return build(ImageFolderOptions(root=root, **options), seed)


def names(split: Split) -> list[str]:
    return [split.identity(index) for index in range(len(split))]


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as refused:
        load(root)
    return str(refused.value)


def test_train_and_val(tmp_path: Path) -> None:
    fill(tmp_path, "train/bee/2.PNG", "train/bee/1.jpg", "train/ant/a b.png", "val/bee/é.png", "test/cat/1.png")
    source = load(tmp_path)
    check_classes(source)
    assert source.classes == ("ant", "bee")
    assert names(source.train) == ["train/ant/a b.png", "train/bee/1.jpg", "train/bee/2.PNG"]
    assert [source.train.target(index) for index in range(3)] == [0, 1, 1]
    assert names(source.val) == ["val/bee/é.png"]
    assert source.val.target(0) == 1
    assert source.train.image(2).getpixel((0, 0)) == (0, 0, 0)


def test_classes_and_files_stand_as_torchvision_sorts_them(tmp_path: Path) -> None:
    fill(tmp_path, *(f"train/{name}/{file}.png" for name in (*range(1, 13), "B", "a") for file in (1, 10, 2)))
    fill(tmp_path, *(f"val/{name}/1.png" for name in range(1, 3)))
    theirs = ImageFolder(tmp_path / "train")
    source = load(tmp_path)
    assert list(source.classes) == theirs.classes
    assert [source.train.target(i) for i in range(len(source.train))] == theirs.targets
    assert [str(tmp_path / name) for name in names(source.train)] == [path for path, _ in theirs.samples]


def test_one_folder_is_split(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{name}/{number}.png" for name in "ab" for number in range(10)))
    source = load(tmp_path, val_fraction=0.3)
    assert len(source.val) == 6
    assert sorted(names(source.train) + names(source.val)) == sorted(f"{n}/{i}.png" for n in "ab" for i in range(10))
    assert names(source.val) == names(load(tmp_path, val_fraction=0.3).val) != names(load(tmp_path, 1).val)


def test_what_is_hidden_or_no_image_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "a/2.png", "a/.3.png", "a/.cache/4.png", ".git/5.png", "b/x.txt", "b/1.tiff", "b/2.WebP")
    source = load(tmp_path)
    assert source.classes == ("a", "b")
    assert sorted(names(source.train) + names(source.val)) == ["a/1.png", "a/2.png", "b/1.tiff", "b/2.WebP"]


def test_nested_folders_and_links(tmp_path: Path) -> None:
    fill(tmp_path, "far/1.png", "root/a/deep/er/1.png", "root/a/2.png", "root/b/3.png")
    (tmp_path / "root/b/link").symlink_to(tmp_path / "far", target_is_directory=True)
    (tmp_path / "root/a/loop").symlink_to(tmp_path / "root/a", target_is_directory=True)
    source = load(tmp_path / "root")
    found = sorted(names(source.train) + names(source.val))
    assert found == ["a/2.png", "a/deep/er/1.png", "b/3.png", "b/link/1.png"]


def test_a_class_called_train(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{name}/{number}.png" for name in ("car", "train") for number in range(2)))
    assert load(tmp_path).classes == ("car", "train")


def test_no_such_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no") == (
        f"the folder cannot be read: No such file or directory\n  where: {tmp_path}/no\n"
        "  mend:  set data.root to a folder of images"
    )
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file").startswith("the folder cannot be read: Not a directory\n")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png")
    (tmp_path / "a").chmod(0)
    assert refusal(tmp_path).startswith("the folder cannot be read: Permission denied\n")


def test_no_class_folders(tmp_path: Path) -> None:
    fill(tmp_path, "1.png")
    assert refusal(tmp_path) == (
        f"there are no class folders\n  where: {tmp_path}\n  mend:  one folder a class, its name the class's"
    )


def test_a_class_without_images(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png")
    for name in ("b", "c"):
        (tmp_path / name).mkdir()
    assert refusal(tmp_path) == (
        f"no images in class 'b', 'c'\n  where: {tmp_path}\n  mend:  add images, or remove the folder"
    )


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    assert refusal(tmp_path) == ("class 'b' has one image: it cannot both train and validate\n  mend:  add more of it")


def test_a_class_to_validate_on_alone(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/Bee/1.png")
    assert refusal(tmp_path) == f"classes to validate on but none to train on: 'Bee'\n  where: {tmp_path}/val"


@pytest.mark.parametrize(
    ("other", "hint"),
    [
        ("valid/a/1.png", "rename valid/ to val/"),
        ("test/a/1.png", "rename test/ to val/"),
        ("notes/a/1.png", "add val/, or set data.root to train/ to have it split"),
    ],
)
def test_train_without_val(tmp_path: Path, other: str, hint: str) -> None:
    fill(tmp_path, "train/a/1.png", other)
    assert refusal(tmp_path) == f"there is train/ but no val/\n  where: {tmp_path}\n  mend:  {hint}"
