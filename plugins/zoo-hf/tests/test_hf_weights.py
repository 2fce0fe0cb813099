"""The weights source: checkpoints as transformers saves them, whatever it calls their tensors."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageClassification
from zoo.testing import check_weights
from zoo.weights.places import weights_request

from zoo_hf.backbone import build as build_backbone
from zoo_hf.examples import VIT, make_vit
from zoo_hf.plugin import WEIGHTS, TransformersOptions, TransformersWeightsOptions
from zoo_hf.weights import build


def found(folder: Path, kind: str = "vit", **config: Any) -> zoo.WeightsFile:
    """What the source says to a backbone of that type."""
    native = build_backbone(TransformersOptions(arch=kind, config={**VIT, **config}), None).native
    return build(TransformersWeightsOptions(path=str(folder)), weights_request(native, None))


def refused(folder: Path, kind: str = "vit", **config: Any) -> str:
    with pytest.raises(zoo.ZooError) as caught:
        found(folder, kind, **config)
    return str(caught.value)


def renamed(name: str, file: zoo.WeightsFile) -> str:
    for pattern, replacement in file.rename:
        name = re.sub(pattern, replacement, name)
    return name


def test_each_key_gets_the_name_that_transformers_gives_it(tmp_path: Path) -> None:
    make_vit(tmp_path)
    file = found(tmp_path)
    theirs = AutoModelForImageClassification.from_pretrained(tmp_path).state_dict()
    stored = load_file(tmp_path / "model.safetensors")
    assert set(stored) != set(theirs)
    here = {renamed(name, file): tensor for name, tensor in stored.items()}
    assert here.keys() == theirs.keys()
    assert [name for name, tensor in theirs.items() if not torch.equal(tensor, here[name])] == []
    assert (file.architecture, file.origin, file.classes) == ("transformers/vit", f"transformers {tmp_path}", None)


def test_it_is_what_a_source_promises() -> None:
    check_weights(WEIGHTS)


def test_a_sharded_checkpoint_is_found_by_its_index(tmp_path: Path) -> None:
    model = AutoModelForImageClassification.from_config(AutoConfig.for_model("vit", num_labels=2, **VIT))
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    file = found(tmp_path)
    assert file.path.name == "model.safetensors.index.json"
    keys = json.loads(file.path.read_text())["weight_map"]
    assert {renamed(key, file) for key in keys} == set(model.state_dict())


def test_class_names_are_those_of_the_configuration(tmp_path: Path) -> None:
    make_vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "id2label": {"0": "cat", "1": "dog"}}))
    assert found(tmp_path).classes == ("cat", "dog")


def test_preprocessing_travels_with_the_weights(tmp_path: Path) -> None:
    make_vit(tmp_path)
    assert found(tmp_path).input is None
    facts = {"size": 48, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(facts))
    assert found(tmp_path).input == zoo.InputSpec((48, 48), (0.1, 0.2, 0.3), (0.4, 0.4, 0.4), "bilinear", 1.0)


def test_what_is_not_there_or_damaged(tmp_path: Path) -> None:
    assert refused(tmp_path) == (
        f"there is no model.safetensors in '{tmp_path}'\n"
        "  where: [weights] path\n"
        "  mend:  save the model with save_pretrained"
    )
    make_vit(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:1000])
    assert refused(tmp_path).startswith("the weights cannot be read: ")
    (tmp_path / "model.safetensors").write_bytes(whole)
    (tmp_path / "config.json").write_text("{")
    assert refused(tmp_path).startswith("the file is no JSON: ")


def test_tensors_that_transformers_makes_others_of_are_refused(tmp_path: Path) -> None:
    """A fused layer of DINOv2, which it cuts in two."""
    name = "dinov2.layers.0.mlp.weights_in.weight"
    save_file({name: torch.zeros(8, 4)}, tmp_path / "model.safetensors")
    config = {key: value for key, value in VIT.items() if key != "intermediate_size"}
    native = build_backbone(TransformersOptions(arch="dinov2", config={**config, "use_swiglu_ffn": True}), None).native
    with pytest.raises(zoo.ZooError) as caught:
        build(TransformersWeightsOptions(path=str(tmp_path)), weights_request(native, None))
    assert str(caught.value).startswith(f"transformers makes other tensors of '{name}' when it loads, 'dinov2.")
    assert str(caught.value).endswith("  mend:  load it with transformers and save its state_dict")
