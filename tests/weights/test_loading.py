"""Loading: everything accounted for, or refused; all or nothing."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.errors import WeightsError
from zoo.recipe.schema import WeightsTable
from zoo.registry.contracts import WeightsFile
from zoo.weights import Ledger, Target, load, load_state, plan

CLASSES = ("cat", "dog", "owl")
Tensors = dict[str, Tensor]


def _saved(tensors: Tensors, folder: Path) -> WeightsFile:
    path = folder / "x.pth"
    torch.save(tensors, path)
    return WeightsFile(path, origin="file x.pth")


def _blank(tensors: Tensors) -> Tensors:
    return {name: torch.zeros_like(value) for name, value in tensors.items()}


def _target(tensors: Tensors, architecture: str | None = None) -> Target:
    return Target(tensors, classifier="fc", classes=CLASSES, architecture=architecture)


def _load(target: Tensors, file: WeightsFile, table: WeightsTable | None = None) -> Ledger:
    return load_state(_target(target), file, table or WeightsTable())


def _refusal(target: Tensors, file: WeightsFile, table: WeightsTable | None = None) -> str:
    before = {name: value.clone() for name, value in target.items()}
    with pytest.raises(WeightsError) as caught:
        _load(target, file, table)
    assert all(torch.equal(target[name], before[name]) for name in target)
    return str(caught.value)


def test_a_backbone_is_loaded_and_the_head_reset(tensors: Tensors, tmp_path: Path) -> None:
    target = _blank(tensors)
    ledger = _load(target, _saved(tensors, tmp_path))
    assert ledger.coverage == 1.0
    assert [(entry.source, entry.target, entry.status) for entry in ledger.entries] == [
        ("conv.weight", "conv.weight", "loaded"),
        ("bn.weight", "bn.weight", "loaded"),
        ("bn.num_batches_tracked", "bn.num_batches_tracked", "loaded"),
        ("fc.weight", None, "dropped"),
        ("fc.bias", None, "dropped"),
        (None, "fc.weight", "initialised"),
        (None, "fc.bias", "initialised"),
    ]
    assert torch.equal(target["conv.weight"], tensors["conv.weight"])
    assert target["fc.weight"].abs().sum() == 0


def test_a_head_without_native_form_drops_the_classifier(tensors: Tensors, tmp_path: Path) -> None:
    target = {name: value for name, value in _blank(tensors).items() if not name.startswith("fc.")}
    ledger = _load(target, _saved(tensors, tmp_path))
    assert [entry.source for entry in ledger.entries if entry.status == "dropped"] == ["fc.weight", "fc.bias"]


def test_plan_changes_nothing_and_takes_a_meta_model(tensors: Tensors, tmp_path: Path) -> None:
    target = {name: value.to("meta") for name, value in tensors.items()}
    planned = plan(_target(target), _saved(tensors, tmp_path), WeightsTable())
    assert planned.ledger.coverage == 1.0
    assert torch.equal(planned.values["conv.weight"], tensors["conv.weight"])


def test_wrapped_keys_are_accounted_for_by_rule(tensors: Tensors, tmp_path: Path) -> None:
    wrapped = {f"module.model.{name}": value for name, value in tensors.items()}
    ledger = _load(_blank(tensors), _saved(wrapped, tmp_path))
    assert ledger.entries[0].status == "renamed"
    assert ledger.entries[0].reason == "wrapper segments; namespace model."


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_types_are_converted_and_noted(kind: torch.dtype, tensors: Tensors, tmp_path: Path) -> None:
    target = _blank(tensors)
    source = {**tensors, "conv.weight": tensors["conv.weight"].to(kind)}
    ledger = _load(target, _saved(source, tmp_path))
    assert ledger.entries[0].reason == f"{str(kind).removeprefix('torch.')} to float32"
    assert torch.equal(target["conv.weight"], source["conv.weight"].float())


def test_a_value_too_large_for_the_model_is_refused(tensors: Tensors, tmp_path: Path) -> None:
    target = {**_blank(tensors), "conv.weight": torch.zeros(4, 3, 1, 1, dtype=torch.float16)}
    message = _refusal(target, _saved({**tensors, "conv.weight": tensors["conv.weight"] * 1e6}, tmp_path))
    assert "conv.weight (float32 in the file, too large for float16 in the model)" in message


def test_whole_numbers_are_not_weights(tensors: Tensors, tmp_path: Path) -> None:
    message = _refusal(_blank(tensors), _saved({**tensors, "bn.weight": torch.ones(4, dtype=torch.int64)}, tmp_path))
    assert "of another shape or type: bn.weight (int64 in the file, float32 in the model)" in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_inf_are_refused(bad: float, tensors: Tensors, tmp_path: Path) -> None:
    tensors["bn.weight"][1] = bad
    file = _saved(tensors, tmp_path)
    assert _refusal(_blank(tensors), file) == (
        f"bn.weight of the file holds NaN or Inf\n  where: {file.path}\n"
        "  mend:  its training diverged, or the file is damaged: take an earlier checkpoint"
    )


def test_another_shape_is_refused(tensors: Tensors, tmp_path: Path) -> None:
    file = _saved({**tensors, "conv.weight": torch.ones(4, 3, 3, 3)}, tmp_path)
    assert _refusal(_blank(tensors), file) == (
        "x.pth does not fit the model: 29.41 % of the backbone's 17 elements are covered\n"
        "  where: file x.pth\n"
        "  mend:  the weights are of another architecture, or of another variant of it: "
        "name the one they were made for\n"
        "of another shape or type: conv.weight (4 x 3 x 3 x 3 in the file, 4 x 3 x 1 x 1 in the model)"
    )


def test_keys_without_a_place_are_refused(tensors: Tensors, tmp_path: Path) -> None:
    more = {f"extra.{index}": torch.ones(1) for index in range(7)}
    assert _refusal(_blank(tensors), _saved({**tensors, **more}, tmp_path)) == (
        "x.pth does not fit the model: 100 % of the backbone's 17 elements are covered\n"
        "  where: file x.pth\n"
        "  mend:  map them with `rename`; or list in `may_drop` what the model need not take\n"
        "not in the model: extra.0, extra.1, extra.2, extra.3, extra.4, … (7 keys) of the file"
    )


def test_a_missing_tensor_is_refused_unless_it_may_miss(tensors: Tensors, tmp_path: Path) -> None:
    del tensors["bn.weight"]
    target = {**_blank(tensors), "bn.weight": torch.ones(4)}
    file = _saved(tensors, tmp_path)
    assert _refusal(target, file) == (
        "x.pth does not fit the model: 76.47 % of the backbone's 17 elements are covered\n"
        "  where: file x.pth\n"
        "  mend:  if the backbone may do without them, list them in `may_miss`\n"
        "not in the file: bn.weight of the model"
    )
    ledger = _load(target, file, WeightsTable(may_miss=["bn.*"]))
    assert ledger.coverage == 13 / 17
    assert [(entry.target, entry.reason) for entry in ledger.entries if entry.status == "allowed-missing"] == [
        ("bn.weight", "may_miss 'bn.*'")
    ]


def test_may_miss_must_match_something(tensors: Tensors, tmp_path: Path) -> None:
    file = _saved(tensors, tmp_path)
    assert _refusal(_blank(tensors), file, WeightsTable(may_miss=["bn.weihgt"])) == (
        f"may_miss 'bn.weihgt' matches no tensor of the backbone\n  where: {file.path}\n"
        "  mend:  did you mean 'bn.weight' or 'conv.weight'?"
    )


def test_may_miss_cannot_excuse_everything(tensors: Tensors, tmp_path: Path) -> None:
    head = {name: value for name, value in tensors.items() if name.startswith("fc.")}
    message = _refusal(_blank(tensors), _saved(head, tmp_path), WeightsTable(may_miss=["*"]))
    assert message.splitlines()[0] == "x.pth does not fit the model: 0.00 % of the backbone's 17 elements are covered"


def test_old_files_need_not_count_batches(tensors: Tensors, tmp_path: Path) -> None:
    source = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    ledger = _load(_blank(tensors), _saved(source, tmp_path))
    allowed = [(entry.target, entry.reason) for entry in ledger.entries if entry.status == "allowed-missing"]
    assert allowed == [("bn.num_batches_tracked", "files from before torch 0.4.1 do not count batches")]


def test_a_model_need_not_count_batches(tensors: Tensors, tmp_path: Path) -> None:
    tensors["bn.running_mean"] = torch.zeros(4)
    target = _blank(tensors)
    del target["bn.num_batches_tracked"]
    ledger = _load(target, _saved(tensors, tmp_path))
    assert ("bn.num_batches_tracked", "the model does not count batches") in [
        (entry.source, entry.reason) for entry in ledger.entries
    ]


def test_another_architecture_is_refused_by_its_card(tensors: Tensors, tmp_path: Path) -> None:
    file = WeightsFile(tmp_path / "never-read.pth", "card a", architecture="timm/resnet18")
    with pytest.raises(WeightsError) as caught:
        load_state(_target(_blank(tensors), "timm/resnet50"), file, WeightsTable())
    assert str(caught.value) == (
        "these weights are of timm/resnet18, the model is timm/resnet50\n  where: card a\n"
        "  mend:  name that architecture in [backbone], or other weights in [weights]"
    )


def test_another_architecture_is_refused_by_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), path)
    with torch.device("meta"):
        target = timm.create_model("resnet50").state_dict()
    with pytest.raises(WeightsError) as caught:
        plan(Target(target, classifier="fc"), WeightsFile(path, "file resnet18"), WeightsTable())
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("resnet18.safetensors does not fit the model: ")
    assert lines[0].endswith(" % of the backbone's 23,561,205 elements are covered")
    assert lines[3] == (
        "not in the file: layer1.0.conv3.weight, layer1.0.bn3.weight, layer1.0.bn3.bias, layer1.0.bn3.running_mean, "
        "layer1.0.bn3.running_var, … (165 tensors) of the model"
    )
    assert "layer1.0.conv1.weight (64 x 64 x 3 x 3 in the file, 64 x 64 x 1 x 1 in the model)" in lines[4]


class _Tied(nn.Module):
    """Two names for one tensor's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(3))
        self.register_buffer("b", self.a.data)


def test_shared_memory_with_two_values_is_refused_and_undone(tmp_path: Path) -> None:
    model = _Tied()
    file = _saved({"a": torch.ones(3), "b": torch.full((3,), 2.0)}, tmp_path)
    with pytest.raises(WeightsError) as caught:
        load(model, file)
    assert (
        str(caught.value).splitlines()[0]
        == "b and a are one tensor of the model, and the file's values for the two differ"
    )
    assert model.a.abs().sum() == 0


class _Overlapping(nn.Module):
    """A buffer that is a part of a parameter's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(3))
        self.register_buffer("b", self.a.data[:2])


def test_memory_shared_in_part_is_refused_and_undone(tmp_path: Path) -> None:
    model = _Overlapping()
    file = _saved({"a": torch.ones(3), "b": torch.full((2,), 2.0)}, tmp_path)
    with pytest.raises(WeightsError) as caught:
        load(model, file)
    assert str(caught.value) == (
        f"a does not hold the values that were loaded into it\n  where: {file.path}\n"
        "  mend:  it shares memory with another tensor of the model: load a model without such views"
    )
    assert model.a.tolist() == [0.0, 0.0, 0.0]


def test_load_any_module(tmp_path: Path) -> None:
    source, model = timm.create_model("test_resnet"), timm.create_model("test_resnet")
    torch.save({"state_dict": nn.DataParallel(source).state_dict()}, tmp_path / "x.tar")
    ledger = load(model, tmp_path / "x.tar")
    assert (ledger.coverage, ledger.inside) == (1.0, "state_dict")
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda model: nn.DataParallel(torch.compile(model))])
@pytest.mark.parametrize("saved", [nn.Module.state_dict, lambda model: nn.DataParallel(model).state_dict()])
def test_a_wrapped_models_classifier_is_reset_as_a_bare_ones(wrap: Any, saved: Any, tmp_path: Path) -> None:
    source, model = timm.create_model("test_resnet"), timm.create_model("test_resnet")
    torch.save(saved(source), tmp_path / "x.pth")
    before = model.fc.weight.detach().clone()
    ledger = load(wrap(model), tmp_path / "x.pth", head="reset", classifier="fc")
    assert torch.equal(model.fc.weight, before)
    assert torch.equal(model.conv1[0].weight, source.conv1[0].weight)
    assert [entry.target for entry in ledger.entries if entry.status == "initialised"] == ["fc.weight", "fc.bias"]


def test_a_classifier_is_dropped_where_the_architecture_has_no_linear_one(tensors: Tensors, tmp_path: Path) -> None:
    target = {name: value for name, value in _blank(tensors).items() if not name.startswith("fc.")}
    ledger = load_state(Target(target, classes=CLASSES), _saved(tensors, tmp_path), WeightsTable())
    assert [entry.source for entry in ledger.entries if entry.status == "dropped"] == ["fc.weight", "fc.bias"]
    with pytest.raises(WeightsError, match=r"not in the model: fc\.weight, fc\.bias of the file"):
        load_state(Target(target, classes=CLASSES), _saved(tensors, tmp_path), WeightsTable(head="keep"))


def test_keys_without_a_place_may_be_dropped(tensors: Tensors, tmp_path: Path) -> None:
    file = _saved({**tensors, "aux.conv.weight": torch.ones(2), "aux.bias": torch.ones(1)}, tmp_path)
    ledger = _load(_blank(tensors), file, WeightsTable(may_drop=["aux.*"]))
    dropped = [(entry.source, entry.reason) for entry in ledger.entries if entry.reason.startswith("may_drop")]
    assert dropped == [("aux.conv.weight", "may_drop 'aux.*'"), ("aux.bias", "may_drop 'aux.*'")]


def test_what_the_model_has_a_place_for_is_never_dropped(tensors: Tensors, tmp_path: Path) -> None:
    target = _blank(tensors)
    _load(target, _saved(tensors, tmp_path), WeightsTable(may_drop=["conv.*"]))
    assert torch.equal(target["conv.weight"], tensors["conv.weight"])


def test_may_drop_must_match_something(tensors: Tensors, tmp_path: Path) -> None:
    file = _saved(tensors, tmp_path)
    assert _refusal(_blank(tensors), file, WeightsTable(may_drop=["aux.*"])).splitlines()[0] == (
        "may_drop 'aux.*' matches no key of the file"
    )


def test_a_classifier_of_another_name_is_dropped_by_reset_alone(tensors: Tensors, tmp_path: Path) -> None:
    source = {name.replace("fc.", "head.fc."): value for name, value in tensors.items()}
    ledger = _load(_blank(tensors), _saved(source, tmp_path))
    dropped = [(entry.source, entry.reason) for entry in ledger.entries if entry.status == "dropped"]
    assert dropped == [("head.fc.weight", 'head = "reset"'), ("head.fc.bias", 'head = "reset"')]
    message = _refusal(_blank(tensors), _saved(source, tmp_path), WeightsTable(head="keep"))
    assert "not in the model: head.fc.weight, head.fc.bias of the file" in message


def test_buffers_that_the_architecture_computes_need_not_be_there_nor_fit(tensors: Tensors, tmp_path: Path) -> None:
    own = {"a.relative_position_index": torch.arange(4), "b.relative_position_index": torch.arange(4)}
    given = {"a.relative_position_index": torch.arange(9), "c.attn_mask": torch.zeros(2, 2)}
    target = {**_blank(tensors), **own}
    ledger = _load(target, _saved({**tensors, **given}, tmp_path))
    assert [entry.source or entry.target for entry in ledger.entries if entry.reason.startswith("computed")] == [
        "a.relative_position_index", "c.attn_mask", "a.relative_position_index", "b.relative_position_index",
    ]  # fmt: skip
    assert target["a.relative_position_index"].tolist() == [0, 1, 2, 3]


def test_input_channels_and_positions_are_adapted_and_said(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "x.pth")
    model = timm.create_model("test_vit", in_chans=1, img_size=64)
    ledger = load(model, tmp_path / "x.pth")
    assert [entry.target for entry in ledger.entries if entry.status == "adapted"] == [
        "pos_embed", "patch_embed.proj.weight",
    ]  # fmt: skip
    assert ledger.coverage == 1.0
    assert [line for line in ledger.table().splitlines() if line.startswith("adapted")] == [
        "adapted      1 (pos_embed): positions 10 x 10 to 4 x 4",
        "adapted      1 (patch_embed.proj.weight): input channels 3 to 1",
    ]
    with pytest.raises(WeightsError) as caught:
        load(timm.create_model("test_vit", in_chans=1), tmp_path / "x.pth", adapt=())
    assert str(caught.value).splitlines()[-1] == (
        "of another shape or type: patch_embed.proj.weight (64 x 3 x 16 x 16 in the file, 64 x 1 x 16 x 16 in the "
        'model; adapt = ["channels"] would take it)'
    )


def test_a_patch_size_is_adapted_only_when_asked(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "x.pth")
    model = timm.create_model("test_vit", patch_size=32)
    with pytest.raises(WeightsError, match=r'adapt = \["patches"\] would take it'):
        load(model, tmp_path / "x.pth")
    ledger = load(model, tmp_path / "x.pth", adapt=["patches", "positions"])
    assert "patch_embed.proj.weight" in [entry.target for entry in ledger.entries if entry.status == "adapted"]
