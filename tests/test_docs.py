"""What the documentation shows is run, word for word."""

import importlib.util
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

BLOCK = re.compile(
    r"(?:<!-- (?P<what>\w+)(?:: (?P<path>\S+))? -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL
)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_of_the_hooks_are_as_the_hooks_are(root):
    pages = load(root / "docs" / "generate_hooks.py").pages()
    assert {path.name for path in (root / "docs" / "hooks").iterdir()} == {path.name for path in pages}
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, "run docs/generate_hooks.py"


@pytest.fixture
def environment(tmp_path):
    """A new environment with zoo and what it needs in it, and the commands of one; return the variables for a shell."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for name, module in (("zoo", "zoo"), ("pip", "pip"), ("pytest", "pytest")):
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m {module} "$@"\n')
        command.chmod(0o755)
    others = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # What builds the wheel is here already: nothing need be downloaded for that.
    return others | {"PATH": path, "VIRTUAL_ENV": str(folder), "PIP_NO_BUILD_ISOLATION": "0", "PIP_QUIET": "1"}


def blocks(path, heading):
    """The code blocks of a page below a heading."""
    text = path.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [match.groupdict() for match in BLOCK.finditer(text)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_for_plugins_runs_word_for_word(root, tmp_path, environment):
    folder, said = tmp_path, ""
    for block in blocks(root / "docs" / "plugins.md", "From an idea to a wheel"):
        if block["what"] == "file":
            assert (folder / block["path"]).read_text(encoding="utf-8") == block["text"]
        elif block["what"] == "write":
            (folder / block["path"]).write_text(block["text"], encoding="utf-8")
        elif block["what"] == "said":
            assert block["text"] in said
        else:
            assert block["language"] == "sh"
            text = block["text"].replace("python -m build\n", "python -m build --no-isolation\n")
            done = subprocess.run(
                ["bash", "-ec", f"{text}pwd"], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            said, folder = done.stdout, Path(done.stdout.splitlines()[-1])
    assert "cosine similarity to a direction for each class  cosine (zoo-cosine 0.1.0)" in said
