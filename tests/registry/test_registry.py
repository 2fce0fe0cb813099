import pytest

from zoo.errors import PluginError
from zoo.registry import HeadPart, hookimpl, kinds, load_registry
from zoo.registry.discovery import Candidate, Owner


def offering(*names):
    class Plugin:
        @hookimpl
        def zoo_heads(self):
            return [HeadPart(name, build="a:b") for name in names]

    return Plugin


def plugin(name, *heads, load=None):
    return Candidate(Owner(f"dist-{name}", "1.0", name), load or (lambda: offering(*heads)))


def test_a_part_is_found_with_its_owner():
    found = load_registry(candidates=[plugin("a", "cosine")]).find(kinds.HEAD, "cosine")
    assert str(found.owner) == "a (dist-a 1.0)"


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(PluginError) as caught:
        load_registry(candidates=()).find(kinds.HEAD, "linaer")
    assert str(caught.value) == "there is no head 'linaer'\n  mend:  did you mean 'linear'?"


def test_a_missing_part_may_be_in_a_broken_plugin():
    registry = load_registry(candidates=[plugin("a", load=lambda: 1 / 0)])
    with pytest.raises(PluginError) as caught:
        registry.find(kinds.HEAD, "cosine")
    assert str(caught.value) == (
        "there is no head 'cosine'\n  mend:  one of: linear; not loaded: a (dist-a 1.0) (see `zoo plugins`)"
    )


def test_a_clash_is_refused_when_its_name_is_used_and_names_both_owners_and_the_mend():
    candidates = [plugin("a", "cosine", "other"), plugin("b", "cosine")]
    registry = load_registry(candidates=candidates)
    assert registry.find(kinds.HEAD, "other").owner.plugin == "a"
    with pytest.raises(PluginError) as caught:
        registry.find(kinds.HEAD, "cosine")
    assert str(caught.value) == (
        "head 'cosine' is offered by a (dist-a 1.0) and b (dist-b 1.0)\n"
        "  mend:  leave one out with `-p no:a` or `-p no:b`"
    )
    assert load_registry(["a"], candidates).find(kinds.HEAD, "cosine").owner.plugin == "b"


def test_a_clash_with_a_part_of_zoo_is_mended_by_leaving_out_the_other():
    with pytest.raises(PluginError, match="leave one out with `-p no:a`$"):
        load_registry(candidates=[plugin("a", "linear")]).find(kinds.HEAD, "linear")


def test_zoo_itself_cannot_be_left_out():
    assert load_registry(["zoo", "zoo-finetune"], ()).find(kinds.HEAD, "linear").owner.plugin == "zoo"
