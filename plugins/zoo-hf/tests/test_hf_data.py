"""The data source: every local form of a data set, and what is refused."""

import os
import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import zoo
from hf_made import CLASSES, pixels, png, table, write_parquet

from zoo_hf.data import build
from zoo_hf.plugin import HfDataOptions


def opened(seed: int = 0, **options: Any) -> zoo.DataSource:
    return build(HfDataOptions(**options), seed)


def refused(**options: Any) -> str:
    with pytest.raises(zoo.ZooError) as caught:
        opened(**options)
    return str(caught.value)


def parquet(folder: Path) -> dict[str, Any]:
    return {"path": "parquet", "data_files": write_parquet(folder)}


def saved(folder: Path) -> dict[str, Any]:
    splits = {"train": table(0, 12), "validation": table(12, 4)}
    datasets.DatasetDict(splits).save_to_disk(str(folder / "saved"))
    return {"path": str(folder / "saved")}


def imagefolder(folder: Path) -> dict[str, Any]:
    for split, places in (("train", range(12)), ("validation", range(12, 16))):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
        for place in sorted(places, key=lambda place: (place % 2, place)):
            (folder / split / CLASSES[place % 2] / f"{place:02d}.png").write_bytes(png(place))
    return {"path": "imagefolder", "data_dir": str(folder)}


@pytest.mark.parametrize(
    "stream", [{}, {"streaming": True, "train_limit": 12, "val_limit": 4}], ids=["whole", "stream"]
)
@pytest.mark.parametrize("make", [parquet, saved, imagefolder])
def test_each_form_gives_the_same_images(make: Any, stream: dict[str, Any], tmp_path: Path) -> None:
    source = opened(**make(tmp_path), **stream)
    assert (len(source.train), len(source.val), source.classes) == (12, 4, CLASSES)
    order = sorted(range(12), key=lambda place: (place % 2, place)) if make is imagefolder else range(12)
    for index, place in enumerate(order):
        assert source.train.target(index) == place % 2
        assert np.array_equal(np.asarray(source.train.image(index)), pixels(place))
    assert source.val.identity(3).endswith("/validation/3")
    copied = pickle.loads(pickle.dumps(source.train))
    assert copied.image(5).tobytes() == source.train.image(5).tobytes()


def test_without_a_validation_split_a_share_of_each_class_validates(tmp_path: Path) -> None:
    table(0, 12).to_parquet(tmp_path / "rows.parquet")
    options = {"path": "parquet", "data_files": str(tmp_path / "rows.parquet"), "val_fraction": 0.34}
    first, again, other = (opened(seed, **options) for seed in (0, 0, 1))
    names = [[split.identity(index) for index in range(len(split))] for split in (first.train, first.val)]
    assert sorted(names[0] + names[1]) == sorted(f"parquet/train/{row}" for row in range(12))
    assert [first.val.target(index) for index in range(4)].count(1) == 2
    drawn = [{source.val.identity(index) for index in range(4)} for source in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("feature", "values", "classes", "targets"),
    [
        (datasets.Value("string"), ["owl", "ant", "cat", "ant"], ("ant", "cat", "owl"), [2, 0, 1, 0]),
        (datasets.Value("int64"), [10, 2, 10, 7], ("2", "7", "10"), [2, 0, 2, 1]),
    ],
)
def test_text_and_numbers_become_classes_sorted(
    feature: Any, values: list[Any], classes: tuple[str, ...], targets: list[int], tmp_path: Path
) -> None:
    datasets.DatasetDict(
        {"train": table(0, 4, kind=(feature, values)), "val": table(4, 4, kind=(feature, values))}
    ).save_to_disk(str(tmp_path / "saved"))
    source = opened(path=str(tmp_path / "saved"), label="kind")
    assert source.classes == classes
    assert [source.train.target(index) for index in range(4)] == targets


def test_columns_that_would_do_are_named(tmp_path: Path) -> None:
    rows = [{"bytes": png(0), "path": None}] * 4
    more = {"mask": (datasets.Image(), rows), "coarse": (datasets.ClassLabel(names=["x", "y"]), [0, 1, 0, 1])}
    table(0, 4, **more).save_to_disk(str(tmp_path / "saved"))
    path = str(tmp_path / "saved")
    assert refused(path=path) == (
        "2 columns are of the type Image: image, mask\n"
        "  where: [data] image\n"
        "  mend:  set data.image to one of 'image', 'mask'"
    )
    assert refused(path=path, image="image") == (
        "2 columns are of the type ClassLabel: label, coarse\n"
        "  where: [data] label\n"
        "  mend:  set data.label to one of 'label', 'coarse'"
    )
    assert refused(path=path, image="image", label="fine") == (
        "there is no column 'fine'\n  where: [data] label\n  mend:  one of 'image', 'label', 'mask', 'coarse'"
    )
    assert refused(path=path, image="label", label="coarse").startswith("the column 'label' cannot hold images: Class")


def test_rows_without_a_label_are_refused_with_their_number(tmp_path: Path) -> None:
    rows = table(0, 6).map(lambda row, place: {"label": -1 if place in (2, 4) else row["label"]}, with_indices=True)
    rows.to_parquet(tmp_path / "rows.parquet")
    assert refused(path="parquet", data_files=str(tmp_path / "rows.parquet")) == (
        "2 of 6 rows have no label in 'label', the first is row 2: -1\n"
        "  where: parquet/train\n"
        "  mend:  choose a split that has labels, or filter those rows out"
    )


def test_splits_and_data_sets_that_are_not_there(tmp_path: Path) -> None:
    options = parquet(tmp_path)
    assert refused(**options, val="test") == (
        "the data set 'parquet' has no split 'test'\n  where: [data] val\n  mend:  it has 'train', 'validation'"
    )
    assert refused(**options, val="train") == (
        "the split 'train' would train and validate\n"
        "  where: [data] val\n"
        "  mend:  leave `val` out to have a share of it validate"
    )
    missing = str(tmp_path / "missing.parquet")
    assert refused(path="parquet", data_files=missing) == (
        f"the data set 'parquet' cannot be opened: Unable to find '{missing}'\n"
        "  where: [data] path\n"
        "  mend:  check path, name, data_files and data_dir"
    )
    assert "'nobody/nothing' cannot be opened: " in refused(path="nobody/nothing")


def test_a_class_to_validate_on_alone_is_refused(tmp_path: Path) -> None:
    kinds = (datasets.Value("string"), ["a", "b", "a", "b"]), (datasets.Value("string"), ["a", "b", "c", "b"])
    splits = {"train": table(0, 4, kind=kinds[0]), "val": table(4, 4, kind=kinds[1])}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    path = str(tmp_path / "saved")
    assert refused(path=path, label="kind") == (
        "classes to validate on but none to train on: 'c'\n"
        f"  where: {path}/val\n"
        "  mend:  give both splits the same classes"
    )


def test_an_image_that_cannot_be_decoded_is_met_when_it_is_asked_for(tmp_path: Path) -> None:
    images = [
        {"bytes": png(0)[:60], "path": None},
        None,
        {"bytes": png(2), "path": None},
        {"bytes": b"?", "path": None},
    ]
    rows = {"image": images, "label": [0, 1, 0, 1]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    files = {"train": str(tmp_path / "rows.parquet"), "val": str(tmp_path / "rows.parquet")}
    split = opened(path="parquet", data_files=files).train
    for index in (0, 1, 3):
        with pytest.raises((OSError, ValueError)):
            split.image(index)
    assert split.image(2).size == (10, 12)


def test_a_stream_is_read_once(tmp_path: Path) -> None:
    """The source's bytes are made useless under the same size and time: whoever read it again would fail."""
    options = {**parquet(tmp_path), "streaming": True, "train_limit": 5, "val_limit": 2}
    first = opened(**options)
    assert (len(first.train), len(first.val)) == (5, 2)
    for name in ("train", "val"):
        path = tmp_path / f"{name}.parquet"
        size, time = path.stat().st_size, path.stat().st_mtime_ns
        content = bytearray(path.read_bytes())
        content[8 : size // 2] = bytes(size // 2 - 8)
        path.write_bytes(content)
        os.utime(path, ns=(time, time))
    again = opened(**options)
    assert again.train.image(4).tobytes() == pixels(4).tobytes()
    assert [again.val.target(index) for index in range(2)] == [0, 1]
    os.utime(tmp_path / "train.parquet", ns=(1, 1))
    assert "the stream cannot be read: " in refused(**options)
    write_parquet(tmp_path)
    assert opened(**options).train.image(4).tobytes() == pixels(4).tobytes()


def test_another_limit_is_another_reading(tmp_path: Path) -> None:
    options = {**parquet(tmp_path), "streaming": True}
    assert [len(opened(**options, train_limit=limit).train) for limit in (3, 6)] == [3, 6]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"streaming": True}, "streaming needs train_limit: a run has a length"),
        ({"train_limit": 3}, "train_limit and val_limit are for streaming = true"),
    ],
)
def test_a_recipe_that_streams_says_how_much(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        HfDataOptions(path="parquet", **options)
