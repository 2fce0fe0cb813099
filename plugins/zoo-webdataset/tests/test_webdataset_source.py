"""Samples of shards: what is found, in which order, and what is refused."""

import gzip
import json
import os
import pickle
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zoo
from webdataset_made import pixels, png, sample, write_shard, write_shards
from zoo.data import TrainBatches
from zoo.recipe.schema import DataTable
from zoo.testing import check_data

from zoo_webdataset.files import MOST_OPEN
from zoo_webdataset.plugin import DATA, WebDatasetOptions
from zoo_webdataset.source import build


def opened(seed: int = 0, **options: Any) -> zoo.DataSource:
    return build(WebDatasetOptions(**options), seed)


def refused(**options: Any) -> str:
    with pytest.raises(zoo.ZooError) as caught:
        opened(**options)
    return str(caught.value)


def test_shards_are_read_in_their_order(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, 3, 4)
    source = opened(train=pattern, val=str(tmp_path / "v*.tar"))
    assert (len(source.train), len(source.val), source.classes) == (12, 4, ("0", "1"))
    for index in range(12):
        assert np.array_equal(np.asarray(source.train.image(index)), pixels(index))
        assert source.train.target(index) == index % 2
    assert [source.train.identity(index) for index in (0, 11)] == ["000.tar/0000", "002.tar/0011"]
    assert source.val.identity(0) == "val.tar/0012"


def test_it_is_what_a_data_source_promises() -> None:
    check_data(DATA, slow=False)


@pytest.mark.parametrize(
    ("files", "options", "classes"),
    [
        ({"txt": ["owl", "ant", "cat", "ant"]}, {"label": "txt"}, ("ant", "cat", "owl")),
        ({"json": [{"y": "owl"}, {"y": "ant"}, {"y": "cat"}, {"y": "ant"}]}, {"label": "json", "field": "y"}, None),
        ({"json": [{"label": 2}, {"label": 0}, {"label": 1}, {"label": 0}]}, {"label": "json"}, ("0", "1", "2")),
        (
            {"meta.json": [{"label": 2}, {"label": 0}, {"label": 1}, {"label": 0}]},
            {"label": "meta.json"},
            ("0", "1", "2"),
        ),
        ({"cls": [2, 0, 1, 0]}, {"classes": ["x", "y", "z"]}, ("x", "y", "z")),
        ({"txt": ["owl", "ant", "cat", "ant"]}, {"label": "txt", "classes": ["ant", "cat", "owl"]}, None),
    ],
)
def test_labels(files: dict[str, list[Any]], options: dict[str, Any], classes: Any, tmp_path: Path) -> None:
    rows = [{name: values[place] for name, values in files.items()} for place in range(4)]
    rows = [{k: v.encode() if k == "txt" else v for k, v in row.items()} for row in rows]
    encoded = [{k: json.dumps(v).encode() if k == "meta.json" else v for k, v in row.items()} for row in rows]
    made = [sample(place, **row) for place, row in enumerate(encoded)]
    path = write_shard(tmp_path / "a.tar", made)
    other = write_shard(tmp_path / "b.tar", made)
    source = opened(train=path, val=other, **options)
    assert source.classes == (classes or ("ant", "cat", "owl"))
    assert [source.train.target(index) for index in range(4)] == [2, 0, 1, 0]


def test_without_val_a_share_of_each_class_validates(tmp_path: Path) -> None:
    source = opened(train=write_shards(tmp_path, 2, 10), val_fraction=0.3)
    names = [split.identity(index) for split in (source.train, source.val) for index in range(len(split))]
    assert (len(source.val), sorted(names)) == (6, [f"{place // 10:03d}.tar/{place:04d}" for place in range(20)])


def test_any_number_of_workers_gives_the_same_batches(tmp_path: Path) -> None:
    split = opened(train=write_shards(tmp_path, 3, 8), val=str(tmp_path / "val.tar")).train
    found = []
    for workers in (0, 2):
        table = DataTable(workers=workers, augment="standard")
        batches = TrainBatches(split, zoo.InputSpec(size=(16, 16)), table, batch_size=5, seed=3)
        found.append([(part.indices.tolist(), part.images) for epoch in (0, 1) for part in batches.epoch(epoch)])
        batches.close()
    assert [one[0] for one in found[0]] == [one[0] for one in found[1]]
    assert all(bool((one[1] == other[1]).all()) for one, other in zip(*found, strict=True))
    assert sorted(index for part in found[0][:5] for index in part[0]) == list(range(24))


def test_threads_and_pickled_copies_read_the_same(tmp_path: Path) -> None:
    split = opened(train=write_shards(tmp_path, 3, 8), val=str(tmp_path / "val.tar")).train
    wanted = [split.image(index).tobytes() for index in range(24)]
    copied = pickle.loads(pickle.dumps(split))
    wrong: list[int] = []

    def read(step: int) -> None:
        wrong.extend(i for i in range(0, 24, step) if copied.image(i).tobytes() != wanted[i])

    threads = [threading.Thread(target=read, args=(step,)) for step in (1, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_few_shards_are_open_at_once(tmp_path: Path) -> None:
    split = opened(train=write_shards(tmp_path, MOST_OPEN + 8, 2), val=str(tmp_path / "val.tar")).train
    before = len(os.listdir("/proc/self/fd"))
    for index in range(len(split)):
        split.image(index)
    assert len(os.listdir("/proc/self/fd")) - before == MOST_OPEN
    assert np.array_equal(np.asarray(split.image(0)), pixels(0))


def test_the_index_is_kept_and_made_anew_when_it_is_damaged(tmp_path: Path, cache: Path) -> None:
    """A shard whose headers are gone, of the same size and time, is still known by its index."""
    options = {"train": write_shards(tmp_path, 1, 6), "val": str(tmp_path / "val.tar")}
    opened(**options)
    shard = tmp_path / "000.tar"
    content, time = shard.read_bytes(), shard.stat().st_mtime_ns
    shard.write_bytes(bytes(512) + content[512:])
    os.utime(shard, ns=(time, time))
    assert np.array_equal(np.asarray(opened(**options).train.image(5)), pixels(5))
    shard.write_bytes(content)
    os.utime(shard, ns=(time, time))
    for kept in cache.rglob("*.json"):
        kept.write_text(kept.read_text().replace("0005", "0007"))
    assert opened(**options).train.identity(5) == "000.tar/0005"
    for kept in cache.rglob("*.json"):
        kept.write_bytes(b"\xff" * 10)
    assert opened(**options).train.identity(5) == "000.tar/0005"


def test_a_shard_that_is_changed_meanwhile_stops_the_run(tmp_path: Path) -> None:
    split = opened(train=write_shards(tmp_path, 1, 6), val=str(tmp_path / "val.tar")).train
    os.utime(tmp_path / "000.tar", ns=(1, 1))
    with pytest.raises(zoo.ZooError) as caught:
        split.image(0)
    assert str(caught.value) == (
        f"the shard was changed after it was indexed\n  where: {tmp_path / '000.tar'}\n  mend:  start the run anew"
    )


def test_an_image_that_cannot_be_decoded_is_met_when_it_is_asked_for(tmp_path: Path) -> None:
    made = [sample(0), sample(1, png=png(1)[:80]), sample(2), sample(3, png=b"")]
    split = opened(train=write_shard(tmp_path / "a.tar", made), val=write_shard(tmp_path / "b.tar", made)).train
    for index in (1, 3):
        with pytest.raises((OSError, ValueError)):
            split.image(index)
    assert split.image(2).size == (14, 16)


DAMAGED = "the shard is damaged or cut short: "


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        (
            [sample(0), sample(1, png=None)],
            {},
            "the sample '0001' has no image; its extensions are 'cls', 'txt'\n"
            "  where: {path}\n"
            "  mend:  set data.image to the extension that is the image's",
        ),
        (
            [sample(0), sample(1, jpg=png(1))],
            {},
            "the sample '0001' has 2 images (jpg, png); its extensions are 'cls', 'jpg', 'png', 'txt'\n"
            "  where: {path}\n"
            "  mend:  set data.image to the extension that is the image's",
        ),
        (
            [sample(0), sample(1, cls=None)],
            {},
            "the sample '0001' has no label 'cls'; its extensions are 'png', 'txt'\n"
            "  where: {path}\n"
            "  mend:  set data.label to the extension that is the label's",
        ),
        (
            [sample(0), sample(1, cls=b"one")],
            {},
            "the label of '0001' is b'one', which is no class index\n"
            "  where: {path}\n"
            "  mend:  set data.label and data.field to what is the label",
        ),
        (
            [sample(0, json={"y": 1})],
            {"label": "json"},
            "the label of '0000' is b'{{\"y\": 1}}', which has no member 'label'\n"
            "  where: {path}\n"
            "  mend:  set data.label and data.field to what is the label",
        ),
        (
            [sample(0), sample(1, cls=-1)],
            {},
            "the sample '0001' is not labelled: -1\n"
            "  where: {path}\n"
            "  mend:  class indices begin at 0: leave such samples out",
        ),
        (
            [sample(0), sample(1), sample(0)],
            {},
            "the key '0000' comes twice: its files do not stand together, or it is of two samples\n"
            "  where: {path}\n"
            "  mend:  write the shard with one key a sample",
        ),
        (
            [sample(1), sample(1)],
            {},
            "the sample '0001' has two files '0001.cls'\n"
            "  where: {path}\n"
            "  mend:  write the shard with one key a sample",
        ),
        ([], {}, "the shard has no samples\n  where: {path}\n  mend:  leave it out"),
        (
            [sample(0), sample(1)],
            {"classes": ["only"]},
            "the label of '0001' is 1, which is none of the 1 classes\n"
            "  where: [data] train: {path}\n"
            "  mend:  they are 'only'",
        ),
        (
            [sample(0, json={"label": 0}), sample(1, json={"label": "one"})],
            {"label": "json"},
            "some labels are class indices and some are class names\n"
            "  where: [data] field\n"
            "  mend:  write the shards with one or the other",
        ),
    ],
)
def test_samples_that_are_not_whole(
    made: list[dict[str, Any]], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_shard(tmp_path / "a.tar", made)
    assert refused(train=path, **options) == message.format(path=path)


def test_compressed_shards_are_refused_with_the_reason(tmp_path: Path) -> None:
    plain = Path(write_shard(tmp_path / "a.tar", [sample(0), sample(1)]))
    (tmp_path / "b.tar").write_bytes(gzip.compress(plain.read_bytes()))
    assert refused(train=str(tmp_path / "b.tar")) == (
        "the shard is compressed (gzip): an image in it cannot be read without all that lies before it\n"
        f"  where: {tmp_path / 'b.tar'}\n"
        "  mend:  unpack it to a plain .tar; images are compressed already"
    )


def test_a_shard_that_is_cut_anywhere_or_damaged_is_refused(tmp_path: Path) -> None:
    path = Path(write_shard(tmp_path / "a.tar", [sample(place) for place in range(4)]))
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    ends = [member.offset for member in members]
    inside = [member.offset_data + member.size // 2 for member in members]
    for cut in (0, 100, *ends, *inside):
        path.write_bytes(whole[:cut])
        assert refused(train=str(path)).startswith(DAMAGED), cut
    for member in members:
        path.write_bytes(whole[: member.offset] + b"\xff" * 512 + whole[member.offset + 512 :])
        assert refused(train=str(path)).startswith(DAMAGED), member.offset
    path.write_bytes(b"no tar file" * 100)
    assert refused(train=str(path)).startswith(DAMAGED)


@pytest.mark.skipif(shutil.which("tar") is None, reason="GNU tar writes such shards")
def test_files_with_holes_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "0001.png").open("wb") as file:
        file.truncate(1 << 20)
    subprocess.run(["tar", "--sparse", "-cf", "a.tar", "0001.png"], cwd=tmp_path, check=True)
    assert refused(train=str(tmp_path / "a.tar")) == (
        "'0001.png' is stored with holes (GNU sparse), so its bytes do not lie together\n"
        f"  where: {tmp_path / 'a.tar'}\n"
        "  mend:  write the shard without `tar --sparse`"
    )


def test_what_is_no_sample_is_passed_over(tmp_path: Path) -> None:
    """Folders, and the files that macOS adds to archives."""
    for name, content in (("0001.png", png(1)), ("0001.cls", b"1"), ("._0001.png", b"mac"), ("README", b"text")):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "set", "set")
    write_shard(tmp_path / "b.tar", [sample(0), sample(1)])
    split = opened(train=str(tmp_path / "b.tar"), val=str(tmp_path / "a.tar")).val
    assert [split.identity(index) for index in range(len(split))] == ["a.tar/set/0001"]


def test_shards_that_are_not_there_or_come_twice(tmp_path: Path) -> None:
    write_shards(tmp_path, 2, 4)
    folder = str(tmp_path)
    hint = "paths are relative to the current folder"
    assert refused(train=f"{folder}/{{000..002}}.tar") == (
        f"no shard is '{folder}/002.tar', of '{folder}/{{000..002}}.tar'\n  where: [data] train\n  mend:  {hint}"
    )
    assert refused(train=f"{folder}/x*.tar") == (
        f"no shard is '{folder}/x*.tar'\n  where: [data] train\n  mend:  {hint}"
    )
    assert refused(train=f"{folder}/{{000..") == (
        f"the braces of '{folder}/{{000..' do not close\n"
        "  where: [data] train\n"
        '  mend:  write "shard-{000..009}.tar"'
    )
    assert refused(train=[f"{folder}/000.tar", f"{folder}/0*.tar"]) == (
        f"the shard '{folder}/000.tar' comes twice\n  where: [data] train\n  mend:  name it once"
    )
    assert refused(train=f"{folder}/0*.tar", val=f"{folder}/001.tar") == (
        f"the shard '{folder}/001.tar' would train and validate\n"
        "  where: [data] val\n"
        "  mend:  leave `val` out to have a share of the images validate"
    )
    assert refused(train="https://example.org/{0..3}.tar") == (
        "shards are read from this machine's disks, and 'https://example.org/{0..3}.tar' is an address\n"
        "  where: [data] train\n"
        "  mend:  copy them here first"
    )
    assert refused(train=[]) == "there are no shards\n  where: [data] train\n  mend:  name at least one"


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="the extension 'png' cannot be both the image's and the label's"):
        WebDatasetOptions(train="a.tar", label="png")
    with pytest.raises(ValueError, match="extensions are lower case and without the dot before them"):
        WebDatasetOptions(train="a.tar", image=[".jpg"])
