"""The plugin is found, costs nothing to import, and uses zoo's public names only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import zoo

SOURCE = Path(__file__).resolve().parents[1] / "src" / "zoo_onnx"


def test_zoo_lists_both():
    command = [str(Path(sys.executable).with_name("zoo")), "list", "export"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split("  ")[0] for line in listed.stdout.splitlines() if "zoo-onnx" in line]
    assert lines == ["onnx", "onnx-int8"]


def test_importing_it_is_light():
    heavy = "torch", "onnx", "numpy", "onnxruntime", "onnxscript"
    script = f"import sys, zoo_onnx.plugin; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("path", sorted(SOURCE.glob("*.py")), ids=lambda path: path.stem)
def test_only_public_names(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not [name.name for name in node.names if name.name.startswith("zoo.")]
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("zoo.")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "zoo":
            assert node.attr in zoo.__all__
