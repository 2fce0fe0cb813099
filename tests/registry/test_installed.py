"""Which of the installed distributions count: the first of two on the path, those that ZOO_PLUGINS names."""

import pytest

from tests.registry.fakes import head, install
from zoo.errors import PluginError
from zoo.installed import ONLY, named
from zoo.registry import kinds, load_registry
from zoo.registry.clashes import find_clashes
from zoo.registry.doctor import examine


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two distributions, each with a plugin of its own."""
    for name in ("a", "b"):
        install(tmp_path, f"zoo-{name}", {name: f"zoo_test_in_{name}"}, **{f"zoo_test_in_{name}": head(f"head-{name}")})
    monkeypatch.syspath_prepend(tmp_path)


def states():
    plugins = load_registry().plugins
    return {
        one.owner.plugin: (one.state, one.reason) for one in plugins if one.owner.distribution in ("zoo-a", "zoo-b")
    }


def test_all_count_when_the_variable_is_not_set(two, monkeypatch):
    monkeypatch.delenv(ONLY, raising=False)
    assert states() == {"a": ("ok", ""), "b": ("ok", "")}


@pytest.mark.parametrize("value", ["a", "zoo-a", "Zoo_A", " zoo-a ,zoo"])
def test_only_those_that_are_named_count(two, monkeypatch, value):
    monkeypatch.setenv(ONLY, value)
    shown = ",".join(word.strip() for word in value.split(","))
    assert states() == {"a": ("ok", ""), "b": ("blocked", f"ZOO_PLUGINS={shown}")}


def test_none_count_where_it_is_empty(two, monkeypatch):
    monkeypatch.setenv(ONLY, "")
    registry = load_registry()
    assert {one.owner.plugin for one in registry.plugins if one.state == "ok"} == {"zoo"}
    with pytest.raises(PluginError) as caught:
        registry.find(kinds.HEAD, "head-a")
    assert str(caught.value).startswith("there is no head 'head-a'\n  mend:  one of: linear; not loaded: ")


def test_a_name_that_is_not_installed_is_refused_with_the_nearest(two, monkeypatch):
    monkeypatch.setenv(ONLY, "zoo-aa,b,nothing-like-it")
    with pytest.raises(PluginError) as caught:
        load_registry()
    first, second = caught.value.problems
    assert str(first).startswith(
        "the plugin 'zoo-aa' is not installed\n  where: ZOO_PLUGINS (environment)\n  mend:  did you mean 'zoo-a'"
    )
    assert str(second).startswith("the plugin 'nothing-like-it' is not installed\n")


def test_a_distribution_that_lies_twice_counts_where_python_imports_it_from(tmp_path, monkeypatch):
    for folder, version in (("old", "0.9"), ("new", "1.0")):
        (tmp_path / folder).mkdir()
        install(tmp_path / folder, "zoo-a", {"a": "zoo_test_in_twice"}, version, zoo_test_in_twice=head(f"of-{folder}"))
        monkeypatch.syspath_prepend(tmp_path / folder)
    monkeypatch.syspath_prepend(tmp_path / "new")  # a folder twice is no distribution twice
    (plugin,) = [one for one in load_registry().plugins if one.owner.distribution == "zoo-a"]
    place = f"0.9 in {tmp_path / 'old'}"
    assert (plugin.owner.version, [part.name for part in plugin.parts]) == ("1.0", ["of-new"])
    assert plugin.shadowed == (place,)
    (finding,) = examine([plugin])
    assert (finding.trouble, finding.mend, finding.fails) == (
        f"lies twice on the path: not used is {place}",
        "pip uninstall zoo-a, until none is left, then install one",
        True,
    )


def test_one_entry_point_name_in_two_distributions_is_two_plugins(tmp_path, monkeypatch):
    for name in ("a", "b"):
        install(
            tmp_path,
            f"zoo-{name}",
            {"same": f"zoo_test_in_same_{name}"},
            **{f"zoo_test_in_same_{name}": head("cosine")},
        )
    monkeypatch.syspath_prepend(tmp_path)
    registry = load_registry()
    mine = [one for one in registry.plugins if one.owner.plugin == "same"]
    assert [(one.state, one.owner.distribution) for one in mine] == [("ok", "zoo-a"), ("ok", "zoo-b")]
    assert [str(clash) for one in mine for clash in find_clashes(mine)[one.owner]] == [
        "head cosine with same (zoo-b 1.0)",
        "head cosine with same (zoo-a 1.0)",
    ]
    with pytest.raises(PluginError) as caught:
        registry.find(kinds.HEAD, "cosine")
    assert str(caught.value) == (
        "head 'cosine' is offered by same (zoo-a 1.0) and same (zoo-b 1.0)\n"
        "  mend:  leave one out with `-p no:zoo-a` or `-p no:zoo-b`"
    )
    assert load_registry(["zoo-a"]).find(kinds.HEAD, "cosine").owner.distribution == "zoo-b"


def test_a_metadata_without_a_name_costs_nobody_anything(two, tmp_path):
    (tmp_path / "zoo_a-1.0.dist-info" / "METADATA").write_text("")
    assert {"unknown", "zoo-b"} <= {one.distribution for one in named("zoo")}
