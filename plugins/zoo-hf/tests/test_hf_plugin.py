"""The plugin is found, costs nothing to import, and uses zoo's public names only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import zoo
from zoo.registry.kinds import KINDS

SOURCE = Path(__file__).resolve().parents[1] / "src" / "zoo_hf"


@pytest.mark.parametrize(("kind", "name"), [("data", "hf"), ("backbone", "transformers"), ("weights", "transformers")])
def test_zoo_finds_its_parts(kind: str, name: str) -> None:
    (wanted,) = (known for known in KINDS if known.name == kind)
    owned = zoo.load_registry().find(wanted, name)
    assert owned.owner.distribution == "zoo-hf"
    assert all(field.description for field in owned.part.options.model_fields.values())


def test_importing_it_is_light() -> None:
    heavy = "torch", "datasets", "transformers", "numpy", "PIL"
    script = f"import sys, zoo_hf.plugin; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("path", sorted(SOURCE.glob("*.py")), ids=lambda path: path.stem)
def test_only_public_names(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not [name.name for name in node.names if name.name.startswith("zoo.")]
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("zoo.")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "zoo":
            assert node.attr in zoo.__all__
