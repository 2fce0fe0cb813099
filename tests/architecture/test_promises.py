"""The promises of docs/architecture.md that a reader of the code relies on."""

import ast
import inspect
from pathlib import Path
from statistics import median

import pytest
import tomli

import zoo
from zoo.files import sha256
from zoo.recipe import load_recipe
from zoo.registry import kinds
from zoo.registry.hookspecs import PartHooks, RunEvents
from zoo.weights.cards import read_card

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "zoo").rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
CARDS = sorted((ROOT / "weights").glob("*.toml"))


def functions():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node, clean=False) or ""
                yield path, node, node.end_lineno - node.lineno + 1 - len(docstring.splitlines())


def test_files_are_short():
    long = {path.name: lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 400}
    assert long == {}


def test_functions_are_short():
    lengths = sorted(length for _, _, length in functions())
    assert median(lengths) <= 8
    assert lengths[int(0.9 * len(lengths))] <= 25
    assert [(path.name, node.name) for path, node, length in functions() if length > 60] == []


def test_every_function_says_what_it_returns():
    assert [(path.name, node.name) for path, node, _ in functions() if node.returns is None] == []


def test_nothing_is_asserted_and_no_attribute_is_asked_for():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}"
            assert not (isinstance(node, ast.Name) and node.id == "hasattr"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
def test_every_hook_has_a_built_in_part_and_a_documented_example(kind, registry):
    hook = getattr(PartHooks, kind.hook)
    assert registry.parts(kind)
    assert f"def {kind.hook}():" in hook.__doc__
    assert "def build(" in hook.__doc__
    assert list(inspect.signature(hook).parameters) == ["self"]


def test_every_hook_is_of_a_kind():
    hooks = {name for name in vars(PartHooks) if name.startswith("zoo_")}
    assert hooks == {kind.hook for kind in kinds.KINDS}


def test_every_event_is_documented():
    events = [event for name, event in vars(RunEvents).items() if not name.startswith("_")]
    assert len(events) == 9
    assert all(event.__doc__ for event in events)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_resolves(path, registry):
    assert load_recipe(path, registry).run.name == path.stem


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_every_card_parses_and_its_file_is_the_one_it_names(path):
    card = read_card(path)
    if card.file is not None:
        file = path.parent / card.file
        assert (file.stat().st_size, sha256(file)) == (card.bytes, card.sha256)


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.name)
def test_every_part_can_be_built_and_describes_itself(kind, registry):
    for owned in registry.parts(kind):
        assert callable(owned.part.builder())
        assert owned.part.summary
        assert all(field.description for field in owned.part.options.model_fields.values()), owned.part.name


def test_plugins_import_only_the_public_api():
    for path in (ROOT / "plugins").rglob("src/**/*.py"):
        tree = list(ast.walk(ast.parse(path.read_text())))
        for node in tree:
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            private = [name for name in modules if name and name.startswith("zoo.") and name != "zoo.testing"]
            assert private == [], path
        used = {node.attr for node in tree if isinstance(node, ast.Attribute) and _is_zoo(node.value)}
        used |= {
            name.name
            for node in tree
            if isinstance(node, ast.ImportFrom) and node.module == "zoo"
            for name in node.names
        }
        assert used <= {*zoo.__all__}, path


def _is_zoo(node):
    return isinstance(node, ast.Name) and node.id == "zoo"


def test_the_project_is_what_its_readers_expect():
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["requires-python"]) == ("zoo-finetune", ">=3.11")
    assert project["scripts"] == {"zoo": "zoo.cli.main:main"}
