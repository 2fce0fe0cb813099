"""`zoo export`, `zoo verify`, `zoo weights apply`: one bundle, the weights asked for, the same bytes again."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import zoo as public
from zoo.files import sha256

ALL = ["safetensors", "pth", "hub", "torchscript", "pt2"]


@pytest.fixture
def run(zoo, recipe, tmp_path) -> Path:
    assert zoo("finetune", recipe, "--out", "run", "--set", "run.epochs=1")[0] == 0
    return tmp_path / "run"


def formats(*names):
    return [word for name in names for word in ("--format", name)]


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_format_in_one_folder_and_the_same_in_a_zip(zoo, run, tmp_path):
    status, out, err = zoo("export", "run", *formats(*ALL), "--out", "bundle")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "next         zoo verify bundle   zoo predict bundle IMAGE…"
    written = files(tmp_path / "bundle")
    assert {name for name in written if not name.startswith("golden/")} == {
        "README.md", "config.json", "load.json", "model.json", "model.pt2", "model.pth", "model.safetensors",
        "model.torchscript.pt", "recipe.toml",
    }  # fmt: skip
    status, out, err = zoo("verify", "bundle")
    assert (status, err) == (0, "")
    assert [line.split()[:2] + line.split()[-1:] for line in out.splitlines()] == [
        ["model.safetensors", "timm", "ok"],
        ["model.pth", "timm", "ok"],
        ["config.json", "timm", "ok"],
        ["model.torchscript.pt", "torch", "ok"],
        ["model.pt2", "torch", "ok"],
    ]
    assert zoo("export", "run", *formats(*ALL), "--out", "bundle.zip")[0] == 0
    shutil.unpack_archive(tmp_path / "bundle.zip", tmp_path / "unpacked")
    assert files(tmp_path / "unpacked") == written
    assert json.loads(zoo("verify", "bundle.zip", "--runtime", "torch", "--json")[1])[0]["ok"]


def test_verify_says_what_is_wrong(zoo, run, tmp_path):
    bundle = run / "export"
    tensors = load_file(bundle / "model.safetensors")
    save_file({**tensors, "fc.bias": tensors["fc.bias"] + 1}, bundle / "model.safetensors")
    assert zoo("verify", bundle) == (
        2,
        "",
        "error: model.safetensors has other bytes than when the bundle was made\n"
        f"  where: {bundle}\n  mend:  export the run again\n",
    )
    manifest = json.loads((bundle / "model.json").read_text())
    manifest["artefacts"][0]["files"]["model.safetensors"] = sha256(bundle / "model.safetensors")
    (bundle / "model.json").write_text(json.dumps(manifest))
    status, out, err = zoo("verify", bundle)
    assert (status, out.split()[-1]) == (2, "no")
    first, second, *_ = [line for line in err.splitlines() if line.startswith("error: ")]
    assert first == "error: lineage: weights: the file in the bundle is another"
    assert second.startswith("error: 00.png (a validation image): logits differ by ")
    assert err.count("likely: every image fails: other weights, other preprocessing or another order of classes") == 16


def test_verify_refuses_what_is_no_bundle_and_a_runtime_it_has_not(zoo, run, tmp_path):
    assert zoo("verify", run) == (
        2, "", "error: 'RUN' is no bundle: it has no model.json\n"
        "  mend:  `zoo export RUN` makes one, in RUN/export\n".replace("'RUN'", f"'{run}'"),
    )  # fmt: skip
    assert zoo("verify", "nowhere")[2] == (
        "error: there is no 'nowhere'\n  mend:  `zoo export RUN` makes a bundle, in RUN/export\n"
    )
    assert zoo("verify", run / "export", "--runtime", "onnxruntime")[2] == (
        f"error: the bundle has nothing for onnxruntime\n  where: {run / 'export'}\n  mend:  it has: timm\n"
    )


@pytest.mark.parametrize("verb", [["evaluate"], ["export"], ["audit"], ["finetune", "--resume"]])
def test_a_bundle_is_no_run(zoo, run, verb):
    assert zoo(*verb, "run/export") == (
        2, "", "error: 'run/export' is a bundle, not a run's folder\n"
        "  mend:  name the run's folder; `zoo evaluate` takes a bundle with a folder of images, `zoo verify` alone\n",
    )  # fmt: skip


def test_a_folder_with_other_things_is_not_replaced(zoo, run, tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/letter.txt").write_text("dear")
    assert zoo("export", "run", "--out", "documents") == (
        2, "", "error: there is something else already: letter.txt\n"
        "  where: documents\n  mend:  name a new folder for the bundle with --out\n",
    )  # fmt: skip
    (run / "export/notes.txt").write_text("mine")
    assert zoo("export", "run")[2].startswith("error: there is something else already: notes.txt\n")
    (run / "export/notes.txt").unlink()
    assert zoo("export", "run", *formats("pth"))[0] == 0
    assert not (run / "export/model.safetensors").exists()


def test_data_that_has_changed_since_is_not_measured(zoo, run, photos):
    (photos / "val/above/05.png").rename(photos / "val/below/zz.png")
    for verb in ("export", "evaluate"):
        status, _, err = zoo(verb, "run")
        assert (status, err.splitlines()[1:]) == (2, [
            "  where: [data]",
            "  mend:  put them back, or measure other images with `zoo evaluate BUNDLE FOLDER`",
        ])  # fmt: skip
        assert re.match(r"error: the data's images are no longer the run's: 32 \(\w+\) and 12 \(\w+\), then ", err)


def test_a_zip_and_golden_images_with_other_things_are_not_replaced(zoo, run, tmp_path):
    with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as archive:
        archive.writestr("model.json", "{}")
    assert zoo("export", "run", "--out", "theirs.zip")[2].startswith(
        "error: there is something else already: theirs.zip: model.json\n"
    )
    (run / "export/golden/notes.txt").write_text("mine")
    assert zoo("export", "run")[2].startswith("error: there is something else already: golden/notes.txt\n")
    assert zoo("export", "run", "--out", "ours.zip")[0] == zoo("export", "run", "--out", "ours.zip")[0] == 0


def test_places_that_have_no_name_or_too_long_a_one(zoo, run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert zoo("export", run, "--out", ".")[2].startswith("error: there is something else already: the folder that you")
    assert zoo("export", run, "--out", "a" * 300)[2].startswith("error: the bundle cannot be written: [Errno 36] File")
    assert zoo("verify", "a" * 300)[2].startswith(f"error: '{'a' * 300}' cannot be read: File name too long\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for _ in range(2):
        assert zoo("export", run, "--out", tmp_path / "link")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/model.json").exists()


def test_a_lineage_that_is_gone_is_missed(zoo, run):
    (run / "export/recipe.toml").unlink()
    (run / "export/load.json").unlink()
    assert zoo("verify", run / "export")[2].startswith("error: lineage: recipe.toml is missing\n")


EMA = ["--set", "run.ema=0.5", "--set", "run.epochs=2", "--set", "checkpoint.keep=1"]


def test_with_a_moving_average_the_choice_is_required(zoo, recipe, tmp_path):
    assert zoo("finetune", recipe, "--out", "run", *EMA) == (
        2, "", "error: with run.ema there are two sets of weights, and no [[export]] says which one to write\n"
        f"  where: {recipe}, key export\n"
        '  mend:  `weights = "ema"` is what is validated; "best" and "last" are the raw ones\n',
    )  # fmt: skip
    assert zoo("finetune", recipe, "--out", "run", *EMA, "--set", "export=[]")[0] == 0
    assert zoo("export", "run", *formats("safetensors")) == (
        2, "", "error: the run has raw weights and their moving average: say which\n"
        "  mend:  --weights ema takes the average, which was validated; best and last the raw weights\n",
    )  # fmt: skip
    found = {}
    for weights in ("best", "last", "ema"):
        assert zoo("export", "run", *formats("safetensors"), "--weights", weights, "--out", weights)[0] == 0
        manifest = json.loads((tmp_path / weights / "model.json").read_text())
        assert manifest["weights"] == weights
        assert "val/accuracy" in manifest["metrics"]
        found[weights] = load_file(tmp_path / weights / "model.safetensors")["fc.weight"]
    index = json.loads((tmp_path / "run/checkpoints/index.json").read_text())["best"]
    best = tmp_path / "run/checkpoints" / index
    newest = max((tmp_path / "run/checkpoints").glob("step-*"))
    for weights, path in (("best", best), ("last", newest)):
        assert torch.equal(found[weights], load_file(path / "model.safetensors")["heads.main.linear.weight"])
    assert torch.equal(found["ema"], load_file(best / "ema.safetensors")["heads.main.linear.weight"])
    assert not torch.equal(found["ema"], found["best"])


def test_there_is_no_average_to_export(zoo, run):
    assert zoo("export", "run", "--weights", "ema") == (
        2, "", "error: the run in 'run' has no moving average\n  mend:  take \"best\" or \"last\"\n",
    )  # fmt: skip
    assert zoo("export", "run", "--weights", "ready")[2] == (
        "error: --weights ready is not understood\n  mend:  best or last or ema\n"
    )


def test_a_recipe_cannot_ask_for_two_sets_in_one_bundle(zoo, recipe):
    exports = "export=[{use='safetensors', weights='last'}, {use='pth'}]"
    assert zoo("check", recipe, "--set", exports)[2].startswith(
        "error: the artefacts of a run are one bundle, of one set of weights\n"
    )


@pytest.fixture
def second(zoo, run, recipe, tmp_path) -> Path:
    """A run that trains a head on the first run's weights."""
    tensors = load_file(run / "export/model.safetensors")
    save_file(
        {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}, tmp_path / "base.safetensors"
    )
    sets = ["weights={use='file', file='base.safetensors'}", "freeze={use='head'}", "export=[{use='delta'}]"]
    words = [word for one in sets for word in ("--set", one)]
    assert zoo("finetune", recipe, "--out", "second", *words, "--set", "run.epochs=1")[0] == 0
    return tmp_path / "second"


def test_a_delta_is_put_together_again(zoo, second, tmp_path):
    delta = second / "export/delta.safetensors"
    assert set(load_file(delta)) == {"fc.weight", "fc.bias"}
    assert delta.stat().st_size < 4096
    assert zoo("verify", second / "export")[0] == 0
    assert zoo("export", second, *formats("safetensors"), "--out", "whole")[0] == 0
    status, out, err = zoo("weights", "apply", delta, "again.safetensors")
    assert (status, err) == (0, "")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert sha256(tmp_path / "again.safetensors") in out
    (tmp_path / "base.safetensors").rename(tmp_path / "moved.safetensors")
    assert zoo("weights", "apply", delta, "third.safetensors")[0] == 2
    assert zoo("weights", "apply", delta, "third.safetensors", "--base", "moved.safetensors")[0] == 0
    assert (tmp_path / "third.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_nothing_is_overwritten_by_putting_together(zoo, second, tmp_path):
    before = (tmp_path / "base.safetensors").read_bytes()
    assert zoo("weights", "apply", second / "export", "base.safetensors") == (
        2, "", "error: 'base.safetensors' is there already\n  mend:  name a new file\n",
    )  # fmt: skip
    assert (tmp_path / "base.safetensors").read_bytes() == before


def test_another_base_makes_no_file(zoo, second, tmp_path):
    tensors = load_file(tmp_path / "base.safetensors")
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 1}, tmp_path / "other.safetensors")
    delta = second / "export/delta.safetensors"
    assert zoo("weights", "apply", delta, "out.safetensors", "--base", "other.safetensors") == (
        2, "", "error: base weights and delta do not make the weights that were exported: the base is another\n"
        f"  where: {delta}\n  mend:  name the file that training started from with --base\n",
    )  # fmt: skip
    assert not (tmp_path / "out.safetensors").exists()


def test_the_public_face_loads_and_verifies(run, photos):
    predictor = public.load(run / "export", device="cpu")
    path = photos / "val/above/00.png"
    one = predictor(path, top=2)
    assert [name for name, _ in one.classes] == [one.name, ({"above", "below"} - {one.name}).pop()]
    assert predictor([path, path.read_bytes(), Image.open(path)])[2].name == one.name
    (outcome,) = public.verify(run / "export")
    assert (outcome.artefact, outcome.runtime, outcome.ok) == ("model.safetensors", "timm", True)

    def mine(data: bytes) -> dict[str, float]:
        row = predictor.logits([predictor.decode(data)])[0].tolist()
        return dict(zip(reversed(predictor.classes), reversed(row), strict=True))

    assert public.verify(run / "export", mine)[0].runtime == "yours"
    with pytest.raises(
        public.ZooError, match=r"^00.png \(a validation image\): ValueError: it gives 1 logits for 2 classes"
    ):
        public.verify(run / "export", lambda data: [1.0])


SAME = ["--set", "freeze={use='head'}", "--set", "optim={use='sgd', lr=1e-30}", "--set", "run.epochs=1"]
SEVERAL = ["--set", "device.devices=2"]


@pytest.mark.slow
def test_every_strategy_exports_the_same_file(zoo, recipe, tmp_path):
    """At a rate that moves no bit all end with the same weights: through wrappers, shards and checkpoints."""
    digests = {}
    for name, more in [("single", []), ("data-parallel", []), ("ddp", SEVERAL), ("fsdp", SEVERAL)]:
        sets = [*SAME, "--set", f"device.use='{name}'", *more]
        status, _, err = zoo("finetune", recipe, "--out", name, *sets)
        assert (status, err) == (0, ""), err
        assert zoo("export", name, *formats(*ALL), "--out", f"{name}-bundle")[0] == 0
        digests[name] = {file: sha256(tmp_path / f"{name}-bundle" / file) for file in (
            "config.json", "model.safetensors", "model.pth", "model.torchscript.pt", "model.pt2", "golden/expected.json"
        )}  # fmt: skip
    assert digests["data-parallel"] == digests["ddp"] == digests["fsdp"] == digests["single"]
