"""`[plugins] require`: what must be installed, checked before anything runs, all at once with key and line."""

import pytest
import tomli

from tests.recipe.conftest import SMALL
from tests.registry.fakes import head, install
from zoo import __version__
from zoo.errors import RecipeError
from zoo.recipe.read import Document
from zoo.recipe.resolve import load_recipe, resolve


def check(tmp_path, registry, text):
    path = tmp_path / "a.toml"
    path.write_text(f"{SMALL}\n[plugins]\nrequire = {text}\n")
    return load_recipe(path, registry)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "['pluggy>=1.5', 'Typing_Extensions', 'zoo_finetune>=0.1']",
        f"['zoo-finetune=={__version__}']",
        "['no-such-thing>=1; python_version < \"3\"', 'no-such-thing; extra == \"all\"']",
        "['pydantic[email]>=2']",
    ],
)
def test_what_is_met_goes_through_and_reads_back_equal(tmp_path, registry, text):
    recipe = check(tmp_path, registry, text)
    table = tomli.loads(recipe.to_toml())
    assert table["plugins"] == {"require": list(recipe.plugins.require)}
    assert resolve(Document(table, recipe.path), registry) == recipe


def test_everything_that_is_not_met_is_said_at_once(tmp_path, registry, monkeypatch):
    install(tmp_path / "site", "zoo-a", {"a": "zoo_test_req"}, version="1.1.0rc1", zoo_test_req=head("mine"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    text = f"{SMALL}\n[plugins]\nrequire = ['zoo-none>=1.2', 'zoo-a>=1.2', 'zoo-a>1.0', 'zoo-finetune>=99']\n"
    path = tmp_path / "a.toml"
    path.write_text(text.replace('"digits"', '"nothing"'))
    line = text[: text.index("require")].count("\n") + 1
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, registry)
    assert [str(problem) for problem in caught.value.problems[:3]] == [
        "plugins.require.0 = 'zoo-none>=1.2': it is not installed\n"
        f"  where: {path}:{line}, key plugins.require.0\n  mend:  pip install 'zoo-none>=1.2'",
        "plugins.require.1 = 'zoo-a>=1.2': zoo-a 1.1.0rc1 is installed\n"
        f"  where: {path}:{line}, key plugins.require.1\n  mend:  pip install 'zoo-a>=1.2'",
        f"plugins.require.3 = 'zoo-finetune>=99': zoo-finetune {__version__} is installed\n"
        f"  where: {path}:{line}, key plugins.require.3\n  mend:  pip install 'zoo-finetune>=99'",
    ]
    assert [problem.what for problem in caught.value.problems[3:]] == ["there is no data 'nothing'"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("['zoo-a >= ']", "plugins.require.0 = 'zoo-a >= ': is no requirement such as \"zoo-timm>=1.2\": "),
        ("['zoo-a @ https://x.org/a.whl']", "names a URL: only names and versions can be checked"),
        ("[3]", "plugins.require.0 = 3: input should be a valid string"),
        ("'zoo-a'", "plugins.require = 'zoo-a': input should be a valid list"),
    ],
)
def test_what_is_no_requirement_is_refused(tmp_path, registry, text, message):
    with pytest.raises(RecipeError) as caught:
        check(tmp_path, registry, text)
    (problem,) = caught.value.problems
    assert message in problem.what
    assert problem.hint.startswith('Distributions with versions, as pip takes them: ["zoo-timm>=1.2"].')
