"""The backbone: transformers' own networks under their own names, their preprocessing, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from transformers import AutoConfig
from zoo.testing import check_backbone

from zoo_hf.backbone import architectures, build
from zoo_hf.examples import SWIN, VIT, make_vit
from zoo_hf.plugin import BACKBONE, TransformersOptions

CONVOLVED = {"hidden_sizes": [8, 16], "depths": [1, 1]}
TYPES: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "deit": VIT,
    "dinov2": {key: value for key, value in VIT.items() if key != "intermediate_size"},
    "swin": SWIN,
    "resnet": {**CONVOLVED, "embedding_size": 8, "layer_type": "basic"},
    "convnext": {**CONVOLVED, "num_stages": 2},
}


def refused(arch: str, **config: Any) -> str:
    with pytest.raises(zoo.ZooError) as caught:
        build(TransformersOptions(arch=arch, config=config), None)
    return str(caught.value)


@pytest.mark.parametrize("kind", TYPES)
def test_features_under_the_classifier_are_transformers_logits(kind: str) -> None:
    built = build(TransformersOptions(arch=kind, config=TYPES[kind]), (32, 32))
    torch.manual_seed(0)
    theirs = eval(built.native.call(3), {"transformers": __import__("transformers")}).eval()
    state = theirs.state_dict()
    last = built.native.classifier
    weight, bias = state.pop(f"{last}.weight"), state.pop(f"{last}.bias")
    built.module.load_state_dict(state, strict=True)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = torch.nn.functional.linear(built.module.eval()(images), weight, bias)
        assert torch.allclose(found, theirs(images).logits, atol=1e-5)
    assert built.native.identity == f"transformers/{kind}"
    assert len(built.stages) >= 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_it_is_what_a_backbone_promises(kind: str) -> None:
    check_backbone(BACKBONE, {"arch": kind, "config": {**TYPES[kind]}}, slow=False)


def test_a_vit_is_built_for_the_recipes_size() -> None:
    built = build(TransformersOptions(arch="vit", config=VIT), (48, 32))
    assert built.module(torch.rand(1, 3, 48, 32)).shape == (1, 32)
    assert built.native.arguments["image_size"] == [48, 32]
    assert built.input.size == (32, 32)


def test_a_folder_is_read_without_its_classes(tmp_path: Path) -> None:
    make_vit(tmp_path / "vit")
    built = build(TransformersOptions(arch=str(tmp_path / "vit")), None)
    with zoo.on_meta():
        assert built.native.build(7).classifier.out_features == 7
    assert "LABEL_0" not in built.native.code
    assert str(tmp_path) not in built.native.code


PROCESSORS: list[tuple[dict[str, Any], zoo.InputSpec]] = [
    (
        {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2},
        zoo.InputSpec((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0),
    ),
    (
        {
            "size": {"shortest_edge": 40},
            "crop_size": {"height": 32, "width": 32},
            "do_center_crop": True,
            "image_mean": [0.1, 0.2, 0.3],
            "image_std": [0.4, 0.5, 0.6],
            "resample": 3,
        },
        zoo.InputSpec((32, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", 0.8),
    ),
    (
        {"size": 32, "do_normalize": False, "resample": 0},
        zoo.InputSpec((32, 32), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "nearest", 1.0),
    ),
    (
        {
            "size": {"shortest_edge": 32},
            "crop_pct": 0.5,
            "resample": 1,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
        zoo.InputSpec((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "lanczos", 0.5),
    ),
    (
        {"feature_extractor_type": "DeiTFeatureExtractor", "size": 40, "crop_size": 32},
        zoo.InputSpec((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 0.8),
    ),
]


@pytest.mark.parametrize(("facts", "expected"), PROCESSORS, ids=["squashed", "cropped", "plain", "convnext", "old"])
def test_preprocessing_is_what_the_folder_says(facts: dict[str, Any], expected: zoo.InputSpec, tmp_path: Path) -> None:
    make_vit(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(facts))
    assert build(TransformersOptions(arch=str(tmp_path)), None).input == expected


def test_preprocessing_that_zoo_cannot_say_is_refused(tmp_path: Path) -> None:
    make_vit(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"rescale_factor": 1.0}')
    assert refused(str(tmp_path)) == (
        f"zoo cannot prepare images as '{tmp_path}' expects them: pixels are scaled by 1, not by 1/255\n"
        "  where: preprocessor_config.json\n"
        "  mend:  choose another model"
    )
    (tmp_path / "preprocessor_config.json").write_text("{")
    assert refused(str(tmp_path)).startswith(f"the preprocessing of '{tmp_path}' cannot be read: ")


def test_defaults_are_those_of_the_type() -> None:
    with zoo.on_meta():
        found = {kind: build(TransformersOptions(arch=kind), None).input for kind in ("vit", "convnext", "dinov2")}
    assert found["vit"] == zoo.InputSpec((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0)
    assert found["convnext"].crop_pct == 0.875
    assert found["dinov2"].size == (224, 224)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    assert refused("vitt") == (
        "transformers has no image classifier 'vitt'\n  where: [backbone] arch\n  mend:  did you mean 'vit' or 'levit'?"
    )
    assert refused("swiftformer") == (
        "transformers/swiftformer does not end in one linear layer with a bias on pooled features (B, C)\n"
        "  where: [backbone] arch\n"
        "  mend:  choose another arch"
    )
    assert refused("vit", depth=3).startswith(
        "the configuration of 'vit' has no 'depth' to change\n  where: [backbone]"
    )
    assert refused("swin", **{**SWIN, "num_heads": [3, 3]}).startswith(
        "transformers/swin cannot take images of 32 x 32"
    )
    AutoConfig.for_model("bert").save_pretrained(tmp_path)
    assert refused(str(tmp_path)) == (
        f"transformers has no image classifier of the type 'bert', which '{tmp_path}' is\n"
        "  where: [backbone] arch\n"
        "  mend:  `zoo list backbone` shows the types that it has"
    )
    assert refused("nobody/nothing").startswith("there is no configuration of transformers in 'nobody/nothing': ")


def test_types_are_listed() -> None:
    assert {*TYPES} <= {*architectures()}
