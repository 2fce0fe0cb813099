"""A run's bundle with both formats: exported, verified, and run from its card where zoo cannot be imported."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zoo.cli.main import run

RECIPE = """\
format = 1
[run]
name = "tiny"
epochs = 2
batch_size = 8
[backbone]
use = "timm"
arch = "test_resnet"
[data]
use = "imagefolder"
root = "{root}"
image_size = 32
workers = 0
[device]
device = "cpu"
precision = "fp32"
channels_last = false
[[export]]
use = "onnx"
fold_bn = true
[[export]]
use = "onnx"
preprocess = true
[[export]]
use = "onnx-int8"
images = 16
max_drop = 0.5
"""


def write_photos(root: Path, count: int) -> None:
    """Two classes: bright above, bright below."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for place, name in enumerate(("above", "below")):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 100, (40, 40, 3), dtype=np.uint8)
                pixels[20 * place : 20 * place + 20] += 120
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    write_photos(folder / "photos", 8)
    (folder / "tiny.toml").write_text(RECIPE.format(root=folder / "photos"))
    assert run(["finetune", str(folder / "tiny.toml"), "--out", str(folder / "run")]) == 0
    return folder / "run/export"


def test_it_verifies(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["verify", str(bundle), "--runtime", "onnxruntime", "--json"]) == 0
    outcomes = json.loads(capsys.readouterr().out)
    assert [one["artefact"] for one in outcomes] == ["model.onnx", "model.decoded.onnx", "model.int8.onnx"]
    assert all(one["ok"] and one["images"] == 16 for one in outcomes)


def test_what_the_manifest_says(bundle: Path) -> None:
    manifest = json.loads((bundle / "model.json").read_text())
    exact, decoded, coarse = manifest["artefacts"]
    assert (exact["runtime"], exact["takes"], exact["accuracy"]) == ("onnxruntime", "normalised", None)
    assert (decoded["takes"], decoded["options"]["preprocess"]) == ("decoded", True)
    assert 0.5 <= coarse["accuracy"] <= 1
    assert coarse["bytes"] < 0.5 * exact["bytes"]


def test_the_card_runs_without_zoo(bundle: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (bundle / "README.md").read_text(), re.DOTALL)
    decode, *rest = blocks
    checks = [f"{use.split('classes = ')[0]}\n{check}" for use, check in zip(rest[::2], rest[1::2], strict=True)]
    assert len(checks) == 3
    code = "import sys\nsys.modules['zoo'] = None\n" + decode + "\n".join(checks)
    done = subprocess.run([sys.executable, "-c", code], cwd=bundle, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["ok"] * 48
