"""What costs a newcomer's patience: light verbs never import torch, and output may be cut short."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "timm", "numpy", "PIL", "torchmetrics", "safetensors", "huggingface_hub")
CODE = """
import sys
from zoo.cli.main import run
status = run({arguments!r})
heavy = [name for name in {heavy!r} if name in sys.modules]
print(status, heavy, file=sys.stderr)
"""


def modules_after(*arguments):
    code = CODE.format(arguments=list(arguments), heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["finetune", "--help"],
        ["list"],
        ["plugins"],
        ["schema"],
        ["weights", "list"],
        ["check", "recipes/resnet50_cls.toml"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_light_verb_imports_nothing_heavy(arguments, root, monkeypatch):
    monkeypatch.chdir(root)
    assert modules_after(*arguments) == "0 []"


def test_a_refused_recipe_imports_nothing_heavy(tmp_path):
    recipe = tmp_path / "a.toml"
    recipe.write_text("format = 1\n[run]\nname = 'a'\n")
    assert modules_after("finetune", str(recipe)) == "2 []"


def test_output_cut_short_is_no_failure(root):
    zoo = f"{sys.executable} -m zoo"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {zoo} schema | head -n 1"], capture_output=True, text=True, cwd=root
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


def test_json_output_is_json_alone(root):
    done = subprocess.run([sys.executable, "-m", "zoo", "list", "--json"], capture_output=True, text=True, check=True)
    assert {part["kind"] for part in json.loads(done.stdout)} >= {"backbone", "callback"}
