"""How keys land on a model's names."""

from typing import cast

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zoo.errors import WeightsError
from zoo.weights.names import NAMESPACES, WRAPPERS, match

NAMES = tuple(timm.create_model("resnet10t").state_dict())


def _landed(keys: list[str], target: tuple[str, ...], *rename: tuple[str, str]) -> list[str]:
    return [found.target for found in match(keys, target, rename)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(sorted(WRAPPERS | NAMESPACES)), max_size=3))
def test_any_wrappers_around_a_model_are_undone(outer: list[str]) -> None:
    keys = [".".join([*outer, name]) for name in NAMES]
    assert _landed(keys, NAMES) == list(NAMES)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_wrappers_anywhere_in_the_path_are_undone(data: st.DataObject) -> None:
    keys = []
    for name in NAMES:
        parts = name.split(".")
        for wrapper in data.draw(st.lists(st.sampled_from(sorted(WRAPPERS)), max_size=3)):
            parts.insert(data.draw(st.integers(0, len(parts) - 1)), wrapper)
        keys.append(".".join(parts))
    assert _landed(keys, NAMES) == list(NAMES)


def test_real_wrappers_are_undone() -> None:
    model = timm.create_model("resnet10t")
    compiled = torch.compile(nn.Sequential(nn.DataParallel(model)))
    wrapped = nn.DataParallel(cast(nn.Module, compiled))
    found = match(wrapped.state_dict(), NAMES)
    assert [item.target for item in found] == list(NAMES)
    assert found[0].source.startswith("module._orig_mod.0.module.")
    assert found[0].rule == "wrapper segments; namespace 0."


def test_a_key_that_the_model_has_is_never_renamed() -> None:
    target = ("modules.0.weight", "module.weight", "weight", "model.fc.weight", "0.module.bias")
    assert _landed(list(target), target) == list(target)


def test_a_module_truly_called_module_is_found_below_wrappers() -> None:
    target = ("a.module.weight", "b.weight")
    assert _landed(["module.a.module.weight", "module.b.weight"], target) == list(target)


def test_a_path_with_and_without_module_are_told_apart() -> None:
    target = ("a.module.weight", "a.weight")
    assert _landed(["_orig_mod.a.module.weight", "_orig_mod.a.weight"], target) == list(target)


def test_a_wrapped_model_takes_bare_keys() -> None:
    found = match(["a.weight"], ["_orig_mod.a.weight"])
    assert (found[0].target, found[0].rule) == ("_orig_mod.a.weight", "wrapper segments of the model")


def test_one_namespace_is_chosen_for_the_whole_file() -> None:
    keys = ["model.conv.weight", "model.bn.weight", "teacher.conv.weight", "fc.weight"]
    assert _landed(keys, ("conv.weight", "bn.weight", "fc.weight")) == [
        "conv.weight",
        "bn.weight",
        "teacher.conv.weight",
        "fc.weight",
    ]


def test_a_namespace_that_leads_nowhere_stays() -> None:
    assert _landed(["model.conv.weight"], ("other.weight",)) == ["model.conv.weight"]


def test_rename_rules_come_first_and_in_order() -> None:
    found = match(["module._bn1.weight"], ["bn2.weight"], [(r"\._bn1\.", ".bn2."), (r"^nothing", "")])
    assert (found[0].target, found[0].rule) == ("bn2.weight", r"rename \._bn1\.; wrapper segments")


def test_two_keys_on_one_name_are_refused() -> None:
    with pytest.raises(WeightsError) as caught:
        match(["conv.weight", "module.conv.weight"], ["conv.weight"])
    assert str(caught.value) == (
        "two keys land on conv.weight: conv.weight and module.conv.weight\n"
        "  mend:  the file holds two models, or a rename rule is too wide: save one, or narrow the rule"
    )


def test_a_rule_that_cannot_be_applied_is_refused() -> None:
    with pytest.raises(WeightsError) as caught:
        match(["a"], ["b"], [("a", r"\1")])
    assert str(caught.value) == (
        "the rename rule 'a' → '\\\\1' cannot be applied: invalid group reference 1 at position 1\n"
        "  mend:  in a replacement \\1 is the first group of the pattern"
    )


@pytest.mark.parametrize("around", ["backbone.", "model.", "encoder.net.", "feature_extractor.", "a.b.c."])
def test_a_model_within_another_takes_bare_keys(around: str) -> None:
    target = [f"{around}{name}" for name in NAMES] + ["head.weight"]
    found = match(NAMES, target)
    assert [item.target for item in found] == target[:-1]
    assert {item.rule for item in found} == {f"added namespace {around}"}


def test_one_namespace_is_exchanged_for_another() -> None:
    found = match([f"module.encoder.{name}" for name in NAMES], [f"backbone.{name}" for name in NAMES])
    assert [item.target for item in found] == [f"backbone.{name}" for name in NAMES]
    assert found[0].rule == "wrapper segments; namespace encoder.; added namespace backbone."


def test_any_name_around_everything_is_a_namespace() -> None:
    keys = [f"feature_extractor.{name}" for name in NAMES]
    assert _landed([*keys, "classifier.weight"], NAMES) == [*NAMES, "classifier.weight"]


def test_what_is_around_half_of_the_keys_is_a_part_of_the_model() -> None:
    keys = [f"{side}.{name}" for side in ("left", "right") for name in NAMES]
    assert _landed(keys, NAMES) == keys


def test_another_spelling_lands_under_wrappers_and_namespaces() -> None:
    aliases = {f"features.{index}": name for index, name in enumerate(NAMES)}
    found = match([f"module.model.{alias}" for alias in aliases], NAMES, aliases=aliases)
    assert [item.target for item in found] == list(NAMES)
    assert found[0].rule == "wrapper segments; namespace model.; the other library's names"
    assert all(item.foreign for item in found)


def test_the_models_own_spelling_comes_before_another() -> None:
    found = match(["a", "b"], ["a", "b"], aliases={"a": "b", "b": "a"})
    assert [(item.target, item.foreign) for item in found] == [("a", False), ("b", False)]
