"""New projects: what is refused, and that each kind's passes its own tests."""

import json
import shlex
import subprocess
import sys

import pytest

from zoo.errors import ZooError
from zoo.registry import kinds
from zoo.scaffold import describe, write


def test_a_project_is_whole(tmp_path, zoo):
    status, out, err = zoo("plugins", "new", "zoo-tiny", "--kind", "backbone", "--into", tmp_path / "tiny")
    assert (status, err) == (0, "")
    files = [str(path.relative_to(tmp_path / "tiny")) for path in (tmp_path / "tiny").rglob("*") if path.is_file()]
    assert sorted(files) == [
        ".github/workflows/ci.yml",
        ".gitignore",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "src/zoo_tiny/__init__.py",
        "src/zoo_tiny/backbone.py",
        "src/zoo_tiny/plugin.py",
        "src/zoo_tiny/py.typed",
        "tests/test_zoo_tiny.py",
    ]
    assert out.splitlines()[-1] == f"next         cd {tmp_path / 'tiny'} && pip install -e '.[test]' && pytest"


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        (
            "zoo-tiny",
            "backbon",
            "there is no kind of part 'backbon'\n  where: --kind\n  mend:  did you mean 'backbone'?",
        ),
        (
            "tiny zoo",
            "head",
            "'tiny zoo' is no name for a distribution\n  where: NAME\n"
            "  mend:  letters and digits, a letter first, words joined by `-`: zoo-tiny",
        ),
        ("torch", "head", "there is a package 'torch' already\n  where: NAME\n  mend:  choose another name"),
        (
            "class",
            "head",
            "'class' is a word of Python's own: no package can be called that\n  where: NAME\n"
            "  mend:  choose another name: zoo-class",
        ),
        (
            "zoo-1x",
            "head",
            "'1x' is no name for a part\n  where: NAME\n  mend:  a letter first: zoo-my1x",
        ),
        (
            "zoo-linear",
            "head",
            "zoo has a head 'linear' of its own: recipes that use it would be refused where both are installed\n"
            "  where: NAME\n  mend:  choose another name: zoo-my-linear",
        ),
    ],
)
def test_what_is_refused(name, kind, text):
    with pytest.raises(ZooError) as caught:
        describe(name, kind)
    assert str(caught.value) == text


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ZooError) as caught:
        write(describe("zoo-tiny", "head"), tmp_path)
    assert str(caught.value) == f"'{tmp_path}' is not empty\n  where: --into\n  mend:  name a new folder"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_same_name_is_free_in_another_kind():
    assert describe("zoo-linear", "freeze").part == "linear"


def test_an_exporter_is_an_export():
    assert describe("zoo-tiny", "exporter") == describe("zoo-tiny", "export")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "afile").write_text("kept")
    with pytest.raises(ZooError) as caught:
        write(describe("zoo-tiny", "head"), tmp_path / "afile")
    assert str(caught.value) == f"'{tmp_path}/afile' is a file\n  where: --into\n  mend:  name a new folder"
    assert (tmp_path / "afile").read_text() == "kept"


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "afile").write_text("kept")
    with pytest.raises(ZooError) as caught:
        write(describe("zoo-tiny", "head"), tmp_path / "afile" / "sub")
    assert str(caught.value) == (
        f"cannot write the project: Not a directory\n  where: {tmp_path}/afile/sub\n"
        "  mend:  name a folder that can be made, with --into"
    )


@pytest.mark.parametrize("into", [(), ("--into", "short")], ids=["its folder", "its package"])
def test_a_name_that_is_too_long_is_refused(zoo, into, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "z" * 260
    assert zoo("plugins", "new", name, "--kind", "head", *into) == (
        2,
        "",
        f"error: cannot write the project: File name too long\n  where: {into[1] if into else name}\n"
        "  mend:  choose a shorter name\n",
    )


def test_the_next_line_can_be_pasted(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, out, _ = zoo("plugins", "new", "zoo-tiny", "--kind", "head", "--into", "my plugin")
    assert out.splitlines()[-1] == "next         cd 'my plugin' && pip install -e '.[test]' && pytest"


def test_templates_follow_the_style_of_the_house(tmp_path, root):
    for kind in kinds.KINDS:
        write(describe(f"zoo-my{kind.name}", kind.name), tmp_path / kind.name)
    for command in (["check", "--ignore", "D103,I001"], ["format", "--check"]):
        arguments = [
            sys.executable,
            "-m",
            "ruff",
            *command,
            "--no-cache",
            "--config",
            root / "pyproject.toml",
            tmp_path,
        ]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_kinds_wheel_installs_shows_up_and_passes_its_own_tests(tmp_path, monkeypatch):
    installed = tmp_path / "installed"
    for kind in kinds.KINDS:
        folder = tmp_path / kind.name
        write(describe(f"zoo-my{kind.name}", kind.name), folder)
        run("build", "--wheel", "--no-isolation", folder)
        run("pip", "install", "-q", "--no-deps", "--no-index", "--target", installed, *folder.glob("dist/*.whl"))
    monkeypatch.setenv("PYTHONPATH", str(installed))
    listed = json.loads(run("zoo", "list", "--json"))
    mine = {(row["kind"], row["name"], row["owner"]) for row in listed if row["name"].startswith("my")}
    names = [kind.name for kind in kinds.KINDS]
    assert mine == {(name, f"my{name}", f"my{name} (zoo-my{name} 0.1.0)") for name in names}
    tests = [tmp_path / name / "tests" for name in names]
    options = shlex.split("-q -c /dev/null -p no:cacheprovider -m 'not slow' --import-mode=importlib -W ignore")
    said = run("pytest", *options, *tests)
    assert " passed" in said.splitlines()[-1]
    assert "failed" not in said.splitlines()[-1]


def run(module, *arguments):
    """Run a module in a new process and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
