import pytest
import tomli
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import RecipeError
from zoo.recipe.read import Document, find_lines, parse_value, put_sets, read_recipe


def test_lines_of_tables_keys_and_list_items():
    text = 'format = 1\n# c\n[run]\nname = "a"\n\n[[callback]]\nuse = "x"\n[[callback]]\n"use" = "y"\n[a.b]\nc = 1\n'
    assert find_lines(text) == {
        "format": 1,
        "run": 3,
        "run.name": 4,
        "callback.0": 6,
        "callback.0.use": 7,
        "callback.1": 8,
        "callback.1.use": 9,
        "a.b": 10,
        "a.b.c": 11,
    }


def test_where_is_the_nearest_known_line(small):
    document = read_recipe(small)
    assert document.where("run.epochs") == f"{small}:5, key run.epochs"
    assert document.where("run.missing") == f"{small}:3, key run.missing"
    assert document.where("optim.lr") == f"{small}, key optim.lr"
    assert read_recipe(small, ["run.epochs=3"]).where("run.epochs") == "--set run.epochs=3"
    assert read_recipe(small, ["rum.epochs=3"]).where("rum") == "--set rum.epochs=3"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ('"a"', "a"),
        ("a=b", "a=b"),
        ("cosine", "cosine"),
        ("", ""),
        ("[1, 2]", [1, 2]),
        ('{use = "head"}', {"use": "head"}),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_a_value_is_toml_else_a_string(text, value):
    assert parse_value(text) == value


SCALARS = st.one_of(st.integers(-(2**40), 2**40), st.booleans(), st.text(alphabet="abc=.[] ", max_size=8))
KEYS = st.lists(st.text(alphabet="abcd_", min_size=1, max_size=4), min_size=1, max_size=3)


@given(KEYS, SCALARS)
def test_set_puts_what_toml_would_have_read(path, value):
    text = tomli_w.dumps({"v": value}).removeprefix("v = ").strip()
    document = put_sets(Document({}), [f"{'.'.join(path)}={text}"])
    found = document.table
    for name in path:
        found = found[name]
    assert found == value == tomli.loads(f"v = {text}")["v"]


def test_set_leaves_the_document_as_it_was():
    document = Document({"run": {"epochs": 1}})
    assert put_sets(document, ["run.epochs=2"]).table == {"run": {"epochs": 2}}
    assert document.table == {"run": {"epochs": 1}}


def test_set_reaches_into_lists():
    document = Document({"callback": [{"use": "a"}]})
    assert put_sets(document, ["callback.0.patience=2"]).table == {"callback": [{"use": "a", "patience": 2}]}


def test_every_bad_setting_is_named():
    with pytest.raises(RecipeError) as caught:
        put_sets(Document({"run": {"epochs": 1}, "callback": []}), ["epochs", "=1", "run.epochs.x=1", "callback.0=1"])
    assert str(caught.value) == (
        "there is no `=` with a key before it\n  where: --set epochs\n  mend:  write --set table.key=VALUE\n"
        "there is no `=` with a key before it\n  where: --set =1\n  mend:  write --set table.key=VALUE\n"
        "'run.epochs.x' leads into 'epochs', which is no table\n"
        "  where: --set run.epochs.x=1\n  mend:  write --set table.key=VALUE\n"
        "'callback.0': there is no item '0'\n  where: --set callback.0=1\n  mend:  write --set table.key=VALUE"
    )


def test_a_missing_recipe_names_those_that_are_there(small):
    path = small.with_name("smal.toml")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert str(caught.value) == f"there is no recipe '{path}'\n  mend:  here are {small}"


def test_what_is_not_toml_says_where(small):
    small.write_text("[run\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe(small)
    assert str(caught.value).startswith("not TOML: ")
    assert str(caught.value).endswith(f"  where: {small}\n  mend:  see https://toml.io")


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"^cannot read the recipe .*: \[Errno 21\] Is a directory"):
        read_recipe(tmp_path)


def test_a_byte_order_mark_is_no_error(small):
    small.write_bytes(b"\xef\xbb\xbf" + small.read_bytes())
    assert read_recipe(small).table["format"] == 1
