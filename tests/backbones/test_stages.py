"""Stages partition the parameters, in order, whatever the module looks like."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zoo.backbones.stages import find_stages

NAMES = st.sampled_from(["stem", "blocks", "layer1", "layer10", "layers", "encoder", "norm", "fc"])


def linear(width: int) -> nn.Module:
    return nn.Linear(width, 1, bias=False)


def tree(children: dict[str, nn.Module], container: type[nn.Module] = nn.Module) -> nn.Module:
    module = container()
    for name, child in children.items():
        module.add_module(name, child)
    return module


modules = st.recursive(
    st.integers(1, 50).map(linear),
    lambda inner: st.builds(
        tree, st.dictionaries(NAMES, inner, min_size=1, max_size=4), st.sampled_from([nn.Module, nn.Sequential])
    ),
    max_leaves=12,
)


@settings(max_examples=30, deadline=None)
@given(modules)
def test_every_parameter_is_in_exactly_one_stage(module: nn.Module) -> None:
    stages = find_stages(module)
    for name, _ in module.named_parameters():
        assert sum(name == stage or name.startswith(stage + ".") for stage in stages) == 1


def test_containers_of_known_names_are_opened_one_level() -> None:
    blocks = nn.Sequential(nn.Sequential(linear(1), linear(1)), linear(1), nn.ReLU())
    module = tree({"stem": linear(9), "blocks": blocks, "norm": nn.LayerNorm(3)})
    assert find_stages(module) == ("stem", "blocks.0", "blocks.1", "norm")


def test_a_container_of_the_bulk_is_opened() -> None:
    module = tree({"stem": linear(2), "body": nn.Sequential(linear(5), linear(5)), "neck": nn.Sequential(linear(3))})
    assert find_stages(module) == ("stem", "body.0", "body.1", "neck")


def test_a_numbered_container_stays_whole() -> None:
    module = tree({"layer1": nn.Sequential(linear(1)), "layer10": nn.Sequential(linear(50), linear(50))})
    assert find_stages(module) == ("layer1", "layer10")


def test_a_wrapper_around_the_trunk_is_opened() -> None:
    encoder = tree({"layers": nn.ModuleList([linear(5), linear(5)]), "ln": linear(1)})
    encoder.register_parameter("pos", nn.Parameter(torch.zeros(2)))
    assert find_stages(tree({"stem": linear(1), "encoder": encoder})) == (
        "stem",
        "encoder.pos",
        "encoder.layers.0",
        "encoder.layers.1",
        "encoder.ln",
    )


def test_a_wrapper_around_a_wrapper_is_opened_too() -> None:
    """As transformers has it: `resnet.encoder.stages`."""
    encoder = tree({"stages": nn.ModuleList([linear(5), linear(5)])})
    wrapped = tree({"embedder": linear(2), "encoder": encoder})
    assert find_stages(tree({"resnet": wrapped, "classifier": linear(1)})) == (
        "resnet.embedder",
        "resnet.encoder.stages.0",
        "resnet.encoder.stages.1",
        "classifier",
    )


def test_parameters_of_the_root_come_first() -> None:
    module = tree({"stem": linear(1)})
    module.register_parameter("cls_token", nn.Parameter(torch.zeros(1)))
    assert find_stages(module) == ("cls_token", "stem")


def test_a_module_without_parameters_has_no_stages() -> None:
    assert find_stages(nn.Identity()) == ()
