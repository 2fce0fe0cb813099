"""The README's run, as it stands there: data, weights, training, an export that transformers loads alone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification
from zoo.cli.main import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
README = Path(__file__).resolve().parents[1] / "README.md"
FORMATS = '[device]\ndevice = "cpu"\nprecision = "fp32"\nchannels_last = false\n' + "".join(
    f'[[export]]\nuse = "{name}"\n' for name in ("safetensors", "torchscript", "pt2")
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the README's steps were taken."""
    folder = tmp_path_factory.mktemp("readme")
    (script,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (recipe,) = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=True, capture_output=True)
    (folder / "patches.toml").write_text(f"{recipe}\n{FORMATS}")
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert run(["finetune", "patches.toml", "--out", "run"]) == 0
    finally:
        os.chdir(before)
    return folder


def test_it_learns(ran: Path) -> None:
    last = json.loads((ran / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["val/accuracy"] > 0.6


def test_every_tensor_of_transformers_file_is_accounted_for(ran: Path) -> None:
    entries = json.loads((ran / "run/load.json").read_text())["entries"]
    theirs = AutoModelForImageClassification.from_pretrained(ran / "vit").state_dict()
    loaded = {entry["target"] for entry in entries if entry["status"] in ("loaded", "renamed")}
    assert loaded == {name for name in theirs if not name.startswith("classifier.")}


def test_the_bundle_verifies(ran: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ran)
    capsys.readouterr()
    assert run(["verify", "run/export", "--json"]) == 0
    outcomes = json.loads(capsys.readouterr().out)
    assert [(one["artefact"], one["ok"]) for one in outcomes] == [
        ("model.safetensors", True),
        ("model.torchscript.pt", True),
        ("model.pt2", True),
    ]


def test_the_card_runs_with_transformers_alone(ran: Path) -> None:
    decode, use, check, *_ = re.findall(r"```python\n(.*?)```", (ran / "run/export/README.md").read_text(), re.DOTALL)
    code = f"import sys\nsys.modules['zoo'] = None\n{decode}{use.split('classes = ')[0]}\n{check}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ran / "run/export",
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {line.split()[-1] for line in done.stdout.splitlines()} == {"ok"}


def test_transformers_own_loading_takes_the_export(ran: Path) -> None:
    """`from_pretrained` beside the base model's configuration, and `load_state_dict` with strict=True."""
    config = json.loads((ran / "vit/config.json").read_text())
    names = json.loads((ran / "run/export/model.json").read_text())["classes"]
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: place for place, name in enumerate(names)}}
    folder = ran / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(ran / "run/export/model.safetensors")
    (folder / "model.safetensors").write_bytes((ran / "run/export/model.safetensors").read_bytes())
    model = AutoModelForImageClassification.from_pretrained(folder)
    model.load_state_dict(weights, strict=True)
    again = AutoModelForImageClassification.from_pretrained(folder)
    assert [name for name, tensor in again.state_dict().items() if not torch.equal(tensor, weights[name])] == []
