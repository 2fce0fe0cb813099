"""`zoo weights`, on the checkpoint that ships and on changed copies of it."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from zoo.files import sha256


@pytest.fixture
def tiny(tmp_path):
    """A tiny network's weights, and a function that saves a changed copy."""
    torch.manual_seed(0)
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    save_file(state, tmp_path / "a.safetensors")

    def changed(change, name="b.pth"):
        copy = {key: tensor.clone() for key, tensor in state.items()}
        torch.save(change(copy), tmp_path / name)
        return tmp_path / name

    return tmp_path / "a.safetensors", changed


def test_inspect_shows_what_is_in_a_file(zoo, root):
    file = root / "weights/resnet50.fashion-mnist.safetensors"
    status, out, err = zoo("weights", "inspect", file)
    assert (status, err) == (0, "")
    assert out.splitlines()[:2] == [
        f"file         {file}, 47,192,412 bytes, sha256 {sha256(file)}",
        "tensors      320, 23,581,695 elements, 267 bfloat16, 53 int64",
    ]
    assert "fc        2 tensors   20,490 elements" in out
    status, out, _ = zoo("weights", "inspect", file, "--json")
    found = json.loads(out)
    assert found["shapes"]["fc.weight"] == [10, 2048]
    assert sum(stage["elements"] for stage in found["stages"]) == found["elements"] == 23_581_695


def test_inspect_names_containers_and_wrappers(zoo, tiny):
    _, changed = tiny
    file = changed(lambda state: {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}})
    status, out, _ = zoo("weights", "inspect", file, "-v")
    assert status == 0
    assert "inside       state_dict\n" in out
    assert "names have segments of DDP, torch.compile or the like" in out
    assert "module.fc.weight" in out


def test_check_accepts_what_would_load_in_either_library(zoo, root):
    file = root / "weights/resnet50.fashion-mnist.safetensors"
    for backbone in ("timm/resnet50", "torchvision/resnet50"):
        status, out, err = zoo("weights", "check", file, "--backbone", backbone, "--head", "keep")
        assert (status, err) == (0, "")
        assert out.splitlines()[1].endswith("backbone 23,561,205 of 23,561,205 elements, 100 %")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "timm/resnet51"], "error: there is no backbone 'timm/resnet51': timm has no architecture"),
        (["--backbone", "tim/resnet50"], "error: there is no backbone 'tim'\n  mend:  did you mean 'timm'?\n"),
        (["--backbone", "timm/test_vit"], "error: a.safetensors does not fit the model: "),
        (["--backbone", "timm/test_resnet", "--head", "kep"], "error: --head kep is not understood\n  mend:  reset or"),
    ],
)
def test_check_refuses_what_would_not_load(zoo, tiny, arguments, message):
    status, _, err = zoo("weights", "check", tiny[0], *arguments)
    assert status == 2
    assert err.startswith(message)


def test_diff_finds_the_stage_that_moved_and_those_that_did_not(zoo, tiny):
    first, changed = tiny

    def move(state):
        state["fc.weight"] += 1
        return {f"module.{key}": value for key, value in state.items()}

    status, out, _ = zoo("weights", "diff", first, changed(move), "--json")
    found = json.loads(out)
    moved = {stage["name"] for stage in found["stages"] if stage["identical"] < stage["tensors"]}
    assert (status, moved, found["identical"]) == (1, {"fc"}, False)
    assert zoo("weights", "diff", first, changed(lambda state: state))[0] == 0


def test_diff_names_what_only_one_has_and_what_has_another_shape(zoo, tiny):
    first, changed = tiny

    def change(state):
        state["extra"] = torch.ones(1)
        state["fc.weight"] = torch.ones(5, 2)
        del state["fc.bias"]
        return state

    status, out, _ = zoo("weights", "diff", first, changed(change))
    assert status == 1
    assert out.splitlines()[-3:] == ["only first   fc.bias", "only second  extra", "other shape  fc.weight"]


def test_a_file_equals_its_copy_in_another_format(zoo, tiny, tmp_path):
    first, _ = tiny
    torch.save(load_file(first), tmp_path / "copy.pth")
    assert zoo("weights", "diff", first, tmp_path / "copy.pth")[0] == 0


def test_convert_takes_the_tensors_out_of_a_file_that_asks_for_code(zoo, tiny, tmp_path):
    first, changed = tiny
    file = changed(lambda state: {"state_dict": state, "args": Path("somewhere")})
    status, _, err = zoo("weights", "inspect", file)
    assert status == 2
    assert "pathlib" in err
    assert "zoo weights convert" in err
    status, out, err = zoo("weights", "convert", file, tmp_path / "safe")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].startswith(f"wrote        {tmp_path / 'safe.safetensors'}, ")
    assert zoo("weights", "diff", first, tmp_path / "safe.safetensors")[0] == 0
