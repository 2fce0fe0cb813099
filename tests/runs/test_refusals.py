"""Bad input on the main path: a few clear lines, exit status 2, nothing lost and nothing begun."""

import contextlib
import json
import re
import struct
import subprocess
import zlib

import numpy as np
import pytest
import timm
import torch
from PIL import Image


def refused(zoo, tmp_path, *arguments):
    status, _, err = zoo("finetune", *arguments)
    assert status == 2
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()
    return err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "freeze={use='stages', frozen=['layr1']}",
            "error: freeze.frozen names 'layr1', and no parameter of the backbone lies under it\n"
            "  where: [freeze]\n  mend:  did you mean 'layer1' or 'layer4' or 'layer3'?\n",
        ),
        (
            "device.device=cuda:7",
            "error: device 'cuda:7' is not here\n  where: device.device\n"
            '  mend:  here is cpu; or leave device = "auto"\n',
        ),
        (
            "data.root=nowhere",
            "error: the folder cannot be read: No such file or directory\n  where: nowhere\n"
            "  mend:  set data.root to a folder of images\n",
        ),
    ],
)
def test_what_is_not_there_is_named(zoo, recipe, tmp_path, setting, message):
    assert refused(zoo, tmp_path, recipe, "--set", setting).startswith(message)


def test_weights_of_another_architecture(zoo, recipe, tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    err = refused(zoo, tmp_path, recipe, "--set", "weights={use='file', file='vit.pth'}")
    assert "error: " in err
    assert "vit.pth" in err


def test_a_missing_weights_file_and_card(zoo, recipe, tmp_path):
    err = refused(zoo, tmp_path, recipe, "--set", "weights={use='file', file='gone.pth'}")
    assert "gone.pth" in err
    err = refused(zoo, tmp_path, recipe, "--set", "weights={use='card', card='tf_eficientnet_lite0.imagenet'}")
    assert "did you mean 'tf_efficientnet_lite0.imagenet'" in err


def test_an_empty_class_and_a_class_that_train_lacks(zoo, recipe, photos, tmp_path):
    (photos / "train" / "sideways").mkdir()
    assert "sideways" in refused(zoo, tmp_path, recipe)
    (photos / "train" / "sideways").rmdir()
    (photos / "val" / "sideways").mkdir()
    (photos / "val/above/00.png").rename(photos / "val/sideways/00.png")
    assert "sideways" in refused(zoo, tmp_path, recipe)


def gigantic_png(path):
    """A valid header for 60,000 × 60,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("fault", ["corrupt", "truncated", "gigantic"])
def test_a_bad_image_is_named_or_skipped_counted_and_listed(zoo, recipe, photos, tmp_path, fault):
    bad = photos / "train/above/05.png"
    if fault == "corrupt":
        bad.write_bytes(b"\x89PNG but no more")
    elif fault == "truncated":
        bad.write_bytes(bad.read_bytes()[:700])
    else:
        gigantic_png(bad)
    status, _, err = zoo("finetune", recipe)
    assert status == 2
    assert err.startswith(f"error: image '{bad.relative_to(photos)}' cannot be used: ") or str(bad.name) in err
    assert err.endswith('  mend:  mend or remove it, or set data.on_bad_image = "skip"\n')
    status, out, _ = zoo("finetune", recipe, "--out", "skipping", "--set", "data.on_bad_image=skip")
    assert status == 0
    assert "skipped      1 images that cannot be decoded, listed in skipping/bad_images.txt" in out
    (listed,) = (tmp_path / "skipping/bad_images.txt").read_text().splitlines()
    assert "05.png" in listed


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(zoo, recipe, tmp_path):
    sets = ["--set", "optim={use='sgd', lr=1e8}", "--set", "checkpoint.every=1", "--set", "checkpoint.keep=9"]
    status, _, err = zoo("finetune", recipe, "--out", "run", *sets)
    assert status == 2
    assert err.startswith("error: the loss is ")
    assert " at step " in err
    (_, *_, newest) = sorted((tmp_path / "run/checkpoints").glob("step-*"))
    state = json.loads((newest / "state.json").read_text())
    assert state["progress"]["step"] < int(err.split(" at step ")[1].split()[0])
    assert zoo("evaluate", "run")[2].startswith("error: the run in 'run' has no evaluated checkpoint yet\n")


def test_images_of_every_kind_train(zoo, recipe, photos):
    for index, mode in enumerate(("L", "P", "RGBA", "LA", "1", "CMYK", "I;16")):
        image = Image.open(photos / f"train/above/{index:02d}.png")
        deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
        converted = Image.fromarray(deep) if mode == "I;16" else image.convert(mode)
        suffix = "jpg" if mode == "CMYK" else "png"
        (photos / f"train/above/{index:02d}.png").unlink()
        converted.save(photos / f"train/above/{index:02d}.{suffix}")
    assert zoo("finetune", recipe, "--set", "run.epochs=1")[0] == 0


def test_a_head_named_like_something_that_modules_have(zoo, recipe, tmp_path):
    err = refused(zoo, tmp_path, recipe, "--set", "head.name=items")
    assert err == (
        "error: a head cannot have this name: attribute 'items' already exists\n"
        "  where: head.name\n  mend:  choose another\n"
    )


def test_two_callbacks_of_one_kind_both_count(zoo, recipe):
    stops = "callback=[{use='early-stop', patience=9}, {use='early-stop', patience=1, min_delta=1.0}]"
    status, out, _ = zoo("finetune", recipe, "--set", stops, "--set", "run.epochs=4")
    assert status == 0
    assert "stopped: val/accuracy has not improved for 1 epoch)" in out


def test_an_unknown_optimiser_and_one_that_needs_another_loop(zoo, recipe, tmp_path):
    for name in ("adamm", "sparseadam", "lbfgs"):
        err = refused(zoo, tmp_path, recipe, "--set", f"optim.use={name}")
        assert err.startswith(f"error: there is no optimiser '{name}'\n  where: optim.use\n  mend:  ")


def test_why_a_run_failed_stands_in_its_log(zoo, recipe, tmp_path):
    assert zoo("finetune", recipe, "--out", "run", "--set", "optim={use='sgd', lr=1e8}")[0] == 2
    assert " ended        the loss is " in (tmp_path / "run/log.txt").read_text()


def test_an_artefact_that_cannot_be_written(zoo, recipe, tmp_path):
    assert zoo("finetune", recipe, "--out", "run", "--set", "run.epochs=1")[0] == 0
    (tmp_path / "taken").write_text("a file")
    status, _, err = zoo("export", "run", "--out", "taken/below")
    assert (status, err) == (
        2,
        f"error: the bundle cannot be written: [Errno 17] File exists: '{tmp_path / 'taken'}'\n"
        "  where: taken/below\n  mend:  mend this, then `zoo export RUN`\n",
    )


@pytest.mark.parametrize("name", ["rprop", "madgrad"])
def test_an_optimiser_that_moves_what_is_frozen(zoo, recipe, tmp_path, name):
    sets = ["--set", "freeze={use='zero-lr'}", "--set", f"optim={{use='{name}'}}"]
    status, _, err = zoo("finetune", recipe, "--out", "run", *sets)
    assert status == 2
    first, where, mend = err.splitlines()
    # rprop moves at once; madgrad's first step at rate zero moves nothing.
    assert re.match(r"error: step [1-4]: frozen, but moved: backbone\.", first)
    assert where == "  where: [freeze]"
    assert mend.startswith(
        '  mend:  leave it out of the optimiser (freeze.use = "stages" or "head"), or choose another'
    )
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 6 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system takes root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_up_keeps_the_older_checkpoint_and_the_run_goes_on_once_there_is_room(
    zoo, recipe, small_disk
):
    run = small_disk / "run"
    status, _, err = zoo("finetune", recipe, "--out", run, "--set", "checkpoint.keep=9", "--set", "run.epochs=3")
    assert status == 2
    assert err.startswith("error: cannot save step-")
    assert "is whole" in err
    assert err.endswith("  mend:  make room, then go on with --resume\n")
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    arguments = ["finetune", run / "recipe.toml", "--out", run, "--resume"]
    assert zoo(*arguments)[0] == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_disk_that_is_full_from_the_start(zoo, recipe, small_disk):
    with (small_disk / "filler").open("wb") as filler, contextlib.suppress(OSError):
        filler.write(bytes(8 << 20))
    status, _, err = zoo("finetune", recipe, "--out", small_disk / "run")
    assert status == 2
    assert err.startswith("error: cannot write ")
    assert err.endswith("  mend:  make room or mend this, or choose another folder with --out\n")
