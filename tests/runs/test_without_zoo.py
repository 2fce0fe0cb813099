"""An export is used where zoo is not installed, by the libraries alone."""

import json
import subprocess
import sys

import torch
from safetensors.torch import save_file

from zoo.registry import load_registry
from zoo.run.folder import existing_folder
from zoo.run.trained import load_trained

CODE = """
import sys
sys.modules["zoo"] = None  # importing it fails
import timm, torch, torchvision
from safetensors.torch import load_file

weights, images = load_file(sys.argv[1]), load_file(sys.argv[2])
for model in (timm.create_model("resnet50", num_classes=2), torchvision.models.resnet50(num_classes=2)):
    model.load_state_dict(weights, strict=True)
    with torch.inference_mode():
        print(float((model.eval()(images["images"]) - images["logits"]).abs().max()))
"""


def test_timm_and_torchvision_load_the_same_resnet50_and_give_the_same_logits(zoo, recipe, tmp_path):
    sets = ["--set", "backbone.arch=resnet50", "--set", "run.epochs=1", "--set", "optim.lr=1e-4"]
    assert zoo("finetune", recipe, "--out", "run", *sets)[0] == 0
    trained = load_trained(existing_folder(tmp_path / "run"), load_registry(candidates=()))
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        save_file({"images": images, "logits": trained.logits(images)}, tmp_path / "expected.safetensors")
    weights = tmp_path / "run/export/model.safetensors"
    command = [sys.executable, "-c", CODE, str(weights), str(tmp_path / "expected.safetensors")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(said.split()) == 2
    assert all(float(difference) <= 1e-5 for difference in said.split())
    assert json.loads((weights.parent / "model.json").read_text())["build"] == (
        'timm.create_model("resnet50", num_classes=2)'
    )
