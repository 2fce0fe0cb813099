import pytest
import tomli
from jsonschema import Draft202012Validator

from tests.recipe.conftest import SMALL
from zoo.recipe.jsonschema import recipe_schema
from zoo.recipe.read import Document, put_sets


@pytest.fixture(scope="module")
def validator(registry):
    schema = recipe_schema(registry)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def accepts(validator, *sets):
    return validator.is_valid(put_sets(Document(tomli.loads(SMALL)), sets).table)


def test_it_accepts_what_check_accepts(validator, root):
    assert accepts(validator)
    for path in sorted((root / "recipes").glob("*.toml")):
        assert [error.message for error in validator.iter_errors(tomli.loads(path.read_text()))] == [], path.name


def test_a_resolved_recipe_is_accepted(validator, read):
    assert validator.is_valid(tomli.loads(read().to_toml()))


@pytest.mark.parametrize(
    "setting",
    [
        "run.epochs=0",
        "run.epoch=1",
        "colour=1",
        "backbone.use=tim",
        "backbone.archh=a",
        "data.augment=flop",
        "freeze={use='stages'}",
        "schedule={use='cosin'}",
        "head.dropout=2",
        "head=[]",
        "data.image_size=0",
        "format=2",
        "plugins={requires=[]}",
        "plugins.require=[1]",
    ],
)
def test_it_refuses_what_check_refuses(validator, setting):
    assert not accepts(validator, setting)
