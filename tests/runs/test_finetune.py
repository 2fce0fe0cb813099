"""The main job from the command line, on real files."""

import json
import shutil
from typing import ClassVar

import pytest
import timm
import tomli
import torch
from safetensors.torch import load_file

from zoo import CallbackPart, finetune, hookimpl, load_recipe, load_registry
from zoo.registry import Candidate, Owner


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def run(zoo, recipe, tmp_path):
    status, out, err = zoo("finetune", recipe)
    assert (status, err) == (0, ""), err
    return tmp_path / "runs" / "tiny", out


def test_a_run_leaves_its_folder(run):
    folder, out = run
    assert {entry.name for entry in folder.iterdir()} == {
        "recipe.toml", "environment.json", "load.json", "audit.json", "classes.txt", "metrics.jsonl", "checkpoints",
        "export", "log.txt", ".lock",
    }  # fmt: skip
    assert (folder / "classes.txt").read_text() == "above\nbelow\n"
    assert [(line["epoch"], line["step"]) for line in lines(folder / "metrics.jsonl")] == [(1, 4), (2, 8)]
    assert {"train/loss", "val/loss", "val/accuracy", "lr", "best"} < set(lines(folder / "metrics.jsonl")[0])
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert environment["device"] == "cpu"
    assert environment["parts"]["backbone timm"].startswith("zoo (zoo-finetune ")
    assert "epoch 2/2" in (folder / "log.txt").read_text()
    assert out.splitlines()[-2] == "run          runs/tiny"
    assert "zoo predict runs/tiny IMAGE" in out.splitlines()[-1]


def test_the_second_run_gets_a_folder_of_its_own(zoo, recipe, tmp_path, run):
    assert zoo("finetune", recipe, "--set", "run.epochs=1")[0] == 0
    assert (tmp_path / "runs" / "tiny-2" / "recipe.toml").exists()


def test_the_runs_recipe_repeats_the_run_bit_for_bit(zoo, run, tmp_path):
    folder, _ = run
    status, _, err = zoo("finetune", folder / "recipe.toml", "--out", "again", "--set", "data.workers=2")
    assert (status, err) == (0, "")
    again = tmp_path / "again"
    assert (again / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()
    first, second = (load_file(path / "export/model.safetensors") for path in (folder, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_default_is_in_the_runs_recipe(run):
    table = tomli.loads((run[0] / "recipe.toml").read_text())
    assert table["freeze"] == {"use": "none", "bn": "auto", "mode": "auto"}
    assert table["schedule"] == {"use": "cosine", "warmup": 0.0, "floor": 0.0}


def test_the_export_loads_in_plain_timm(run):
    folder, _ = run
    network = timm.create_model("test_resnet", num_classes=2).eval()
    network.load_state_dict(load_file(folder / "export/model.safetensors"), strict=True)
    facts = json.loads((folder / "export/model.json").read_text())
    assert facts["classes"] == ["above", "below"]
    assert facts["architecture"] == "timm/test_resnet"
    assert facts["build"] == 'timm.create_model("test_resnet", num_classes=2)'
    assert (facts["input"]["size"], facts["weights"]) == ([32, 32], "best")
    assert (folder / "export/load.json").read_bytes() == (folder / "load.json").read_bytes()


def test_verbose_says_what_became_of_every_tensor(zoo, recipe, tmp_path):
    state = timm.create_model("test_resnet", num_classes=2).state_dict()
    torch.save(state, tmp_path / "x.pth")
    weights = ["--set", 'weights={use="file",file="x.pth"}', "--set", "run.epochs=1"]
    told = {}
    for option in ("-v", "--verbose", "-q"):
        status, out, err = zoo("finetune", recipe, *weights, option)
        assert (status, err) == (0, "")
        told[option] = [
            line for line in out.splitlines() if "layer1.0.conv1.weight" in line or line.startswith("stage ")
        ]
    stage, entry = told["-v"][0], told["-v"][-1]
    assert stage.startswith("stage        conv1.0: ")
    assert entry.startswith("loaded       layer1.0.conv1.weight (")
    assert (told["--verbose"], told["-q"]) == (told["-v"], [])


def test_evaluate_gives_the_best_epochs_metrics(zoo, run):
    folder, _ = run
    best = [line for line in lines(folder / "metrics.jsonl") if line["best"]][-1]
    status, out, _ = zoo("evaluate", folder, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["val/accuracy"] == best["val/accuracy"]
    assert found["val/loss"] == pytest.approx(best["val/loss"], rel=1e-5)


def test_predict_names_classes_and_goes_on_after_a_bad_image(zoo, run, photos, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    images = [photos / "val/above/00.png", photos / "val/below/00.png"]
    status, out, err = zoo("predict", run[0], images[0], bad, images[1], "--top", "2", "--json")
    answers = json.loads(out)
    assert status == 2
    assert [answer["image"] for answer in answers] == [str(image) for image in images]
    assert all(sum(answer["classes"].values()) == pytest.approx(1) for answer in answers)
    assert err.startswith(f"error: cannot decode '{bad}': ")
    status, out, _ = zoo("predict", run[0], images[0])
    assert (status, out.split()[0]) == (0, str(images[0]))


def test_export_writes_again_elsewhere_the_same_bytes(zoo, run, tmp_path):
    folder, _ = run
    status, _, err = zoo("export", folder, "--out", "elsewhere")
    assert (status, err) == (0, "")
    first, again = (
        {path.relative_to(below): path.read_bytes() for path in below.rglob("*") if path.is_file()}
        for below in (folder / "export", tmp_path / "elsewhere")
    )
    assert first == again


def test_export_refuses_a_format_that_the_run_does_not_know(zoo, run):
    status, _, err = zoo("export", run[0], "--format", "onxx")
    assert (status, err) == (2, "error: there is no export 'onxx'\n  mend:  did you mean 'onnx'?\n")


def test_a_used_folder_is_refused_overwritten_or_kept(zoo, recipe, run, tmp_path):
    folder, _ = run
    before = (folder / "metrics.jsonl").read_bytes()
    status, _, err = zoo("finetune", recipe, "--out", folder)
    assert (status, err) == (
        2,
        f"error: '{folder}' holds a run already\n"
        "  mend:  go on with it by --resume, start again by --overwrite, or choose another --out\n",
    )
    assert zoo("finetune", recipe, "--out", folder, "--overwrite", "--set", "data.root=nowhere")[0] == 2
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert zoo("finetune", recipe, "--out", folder, "--overwrite", "--set", "run.epochs=1")[0] == 0
    assert len(lines(folder / "metrics.jsonl")) == 1


def test_a_folder_with_other_things_is_never_overwritten(zoo, recipe, photos):
    status, _, err = zoo("finetune", recipe, "--out", photos, "--overwrite")
    assert (status, err) == (
        2,
        f"error: '{photos}' holds what is not a run's: train, val\n  mend:  choose another folder with --out\n",
    )
    assert (photos / "train/above/00.png").exists()


def test_resume_and_overwrite_need_a_run(zoo, recipe, tmp_path):
    assert zoo("finetune", recipe, "--resume")[2] == (
        "error: which run? --resume and --overwrite need its folder\n  mend:  add --out RUN\n"
    )
    assert zoo("finetune", recipe, "--resume", "--out", "nowhere")[2] == (
        "error: there is no run in 'nowhere' to resume\n  mend:  leave out --resume to start one\n"
    )
    assert zoo("evaluate", "nowhere")[2] == (
        "error: 'nowhere' is not a run's folder: it has no recipe.toml\n  mend:  make one with `zoo finetune RECIPE`\n"
    )


def test_a_resume_with_more_epochs_must_say_so(zoo, recipe, run):
    folder, _ = run
    other = recipe.read_text().replace("epochs = 2", "epochs = 3")
    recipe.write_text(other)
    status, _, err = zoo("finetune", recipe, "--out", folder, "--resume")
    assert (status, err) == (
        2,
        f"error: the recipe is not the run's: run.epochs\n  where: {folder}/recipe.toml\n"
        "  mend:  give the run's own recipe, or name the change: --set run.epochs=…\n",
    )
    status, _, err = zoo("finetune", recipe, "--out", folder, "--resume", "--set", "run.epochs=3")
    assert (status, err) == (0, "")
    assert [line["epoch"] for line in lines(folder / "metrics.jsonl")] == [1, 2, 3]


@pytest.mark.parametrize(
    "settings",
    [
        ["freeze={use='head'}"],
        ["freeze={use='stages', frozen=['conv1', 'layer1'], bn='fixed'}", "run.accumulate=2", "run.clip_norm=1.0"],
        [
            "freeze={use='zero-lr', frozen=['conv1']}",
            "optim={use='lamb', lr=1e-3}",
            "run.ema=0.9",
            "export=[{use='safetensors',weights='ema'}]",
        ],
        ["schedule={use='one-cycle'}", "optim={use='sgd', lr=0.05, momentum=0.9, nesterov=true}"],
        ["schedule={use='step', milestones=[0.5]}", "device.precision=bf16", "device.channels_last=true"],
        ["schedule={use='linear', warmup=0.2}", "data.augment=randaugment", "data.mixup=0.2", "data.cutmix=1.0"],
        ["schedule={use='constant'}", "data.augment=trivial", "head={label_smoothing=0.1, dropout=0.2}"],
        ["backbone={use='torchvision', arch='mobilenet_v3_small'}", "data.augment=standard", "checkpoint.every=2"],
        ["device.precision=auto", "device.channels_last=auto", "data.augment=flip"],
        ["callback=[{use='early-stop', patience=1, min_delta=1.0}]", "run.epochs=4"],
    ],
    ids=lambda settings: settings[0][:30],
)
def test_every_setting_trains_and_exports(zoo, recipe, tmp_path, settings):
    sets = [word for setting in settings for word in ("--set", setting)]
    status, out, err = zoo("finetune", recipe, "--out", "run", *sets, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["best"]["val/loss"] > 0
    assert all((tmp_path / file).exists() for file in found["artefacts"])


def test_early_stop_says_why(zoo, recipe):
    sets = ["--set", "callback=[{use='early-stop', patience=1, min_delta=1.0}]", "--set", "run.epochs=4"]
    status, out, _ = zoo("finetune", recipe, *sets)
    assert status == 0
    assert out.splitlines()[-3].endswith("stopped: val/accuracy has not improved for 1 epoch)")


def test_a_run_that_was_moved_still_works(zoo, run, tmp_path):
    folder, _ = run
    moved = shutil.move(folder, tmp_path / "moved")
    assert zoo("evaluate", moved)[0] == 0


def test_several_heads_train_but_have_no_native_form(zoo, recipe, tmp_path):
    heads = ["--set", "head=[{name='one'}, {name='two', weight=0.5}]", "--set", "run.best_by=val/two/accuracy"]
    status, _, err = zoo("finetune", recipe, "--out", "run", *heads)
    assert (status, err) == (
        2,
        "error: native names hold one classifier, and there are the heads one, two\n  where: [[export]]\n"
        "  mend:  train one head, or write `export = []` for no artefact\n",
    )
    assert not (tmp_path / "run").exists()
    assert zoo("finetune", recipe, "--out", "run", *heads, "--set", "export=[]")[0] == 0
    assert set(lines(tmp_path / "run/metrics.jsonl")[0]) >= {"val/one/accuracy", "val/two/accuracy", "val/loss"}
    assert not (tmp_path / "run/export").exists()
    assert zoo("export", "run") == (
        2,
        "",
        "error: the run's recipe names no artefact\n  where: run/recipe.toml\n  mend:  name one with --format\n",
    )


def test_two_exporters_of_one_kind_both_stay(zoo, recipe, tmp_path):
    exports = "export=[{use='safetensors'}, {use='safetensors', dtype='bfloat16'}]"
    assert zoo("finetune", recipe, "--out", "run", "--set", exports, "--set", "run.epochs=1")[0] == 0
    names = ("model.safetensors", "model.bfloat16.safetensors")
    first, second = (load_file(tmp_path / "run/export" / name) for name in names)
    assert (first["fc.weight"].dtype, second["fc.weight"].dtype) == (torch.float32, torch.bfloat16)
    status, out, _ = zoo("export", "run", "--format", "safetensors", "--json", "--out", "again")
    assert (status, len(json.loads(out))) == (0, 2)


class Bell:
    """A callback that notes what it is told at the end of a run."""

    heard: ClassVar[list[str]] = []

    @hookimpl
    def run_ended(self, event):
        self.heard.append(event.reason)

    @hookimpl
    def artefact_written(self, event):
        self.heard.append(event.exporter)


def make_bell(options, folder):
    return Bell()


class BellPlugin:
    """What a distribution's entry point would name."""

    @hookimpl
    def zoo_callbacks(self):
        return [CallbackPart("bell", build="tests.runs.test_finetune:make_bell")]


def test_a_callback_hears_of_every_artefact(recipe, tmp_path):
    registry = load_registry(candidates=[Candidate(Owner("bells", "1", "bell"), BellPlugin)])
    belled = load_recipe(recipe, registry, ["callback=[{use='bell'}]", "run.epochs=1"])
    finetune(belled, tmp_path / "run", registry=registry)
    assert Bell.heard == ["finished", "safetensors"]
