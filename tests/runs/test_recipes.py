"""The recipes that ship, on what they name."""

import json
import socket
import time
from pathlib import Path

import pytest
import timm
from safetensors.torch import save

from tests.hub import Hub, hub

__all__ = ["hub"]  # the fixture

FOLDER = [
    "--set",
    "data.image_size=64",
    "--set",
    "run.epochs=1",
    "--set",
    "data.workers=0",
    "--set",
    "device.precision=fp32",
]


def test_resnet50_folder_takes_weights_from_the_hub(zoo, root, photos, tmp_path, hub: Hub):
    hub.files["timm/resnet50.a1_in1k/model.safetensors"] = save(timm.create_model("resnet50").state_dict())
    arguments = ["finetune", root / "recipes/resnet50_folder.toml", "--set", f"data.root={photos}", *FOLDER]
    status, out, err = zoo(*arguments, "--out", "run", "--set", "device.channels_last=true")
    assert (status, err) == (0, "")
    ledger = json.loads((tmp_path / "run/load.json").read_text())
    assert ledger["origin"].startswith("hub timm/resnet50.a1_in1k@")
    assert "weights      model.safetensors, hub timm/resnet50.a1_in1k@" in out


def test_without_a_network_it_gives_up_in_time_and_says_the_ways_out(zoo, root, photos, hub: Hub, monkeypatch):
    import torchmetrics  # noqa: F401  its import is no wait for the network
    from huggingface_hub import constants

    from zoo.run import finetuning  # noqa: F401

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        started = time.monotonic()
        status, _, err = zoo("finetune", root / "recipes/resnet50_folder.toml", "--set", f"data.root={photos}")
        seconds = time.monotonic() - started
    assert status == 2
    assert "timm/resnet50.a1_in1k" in err
    assert "  mend:  " in err
    assert seconds < 5


@pytest.mark.slow
def test_efficientnet_lite0_from_real_imagenet_weights(zoo, root, tmp_path):
    status, out, err = zoo(
        "finetune", root / "recipes/efficientnet_lite0_cls.toml", "--out", tmp_path / "run", "--json"
    )
    assert (status, err) == (0, "")
    assert json.loads(out)["best"]["val/accuracy"] >= 0.95


@pytest.mark.slow
@pytest.mark.timeout(900)  # 60,000 images: 270 s on two slow cores
def test_the_pretraining_recipe_trains_on_the_real_set(zoo, root, tmp_path):
    if not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")
    recipe = root / "recipes/resnet50_pretrain.toml"
    sets = ["--set", "backbone.arch=test_resnet", "--set", "run.epochs=1"]
    status, out, err = zoo("finetune", recipe, "--out", tmp_path / "run", *sets, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["best"]["val/accuracy"] >= 0.7
