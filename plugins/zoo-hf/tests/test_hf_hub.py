"""A model on the hub: all that is read of it, from a server on 127.0.0.1 that speaks as the hub does."""

import json
from pathlib import Path

import pytest
import transformers.utils.hub
import zoo
from tests.hub import Hub, hub  # noqa: F401  the fixture
from zoo.weights.places import weights_request

from zoo_hf.backbone import build as build_backbone
from zoo_hf.examples import make_vit
from zoo_hf.plugin import TransformersOptions, TransformersWeightsOptions
from zoo_hf.weights import build

REPO = "someone/tiny-vit"


@pytest.fixture
def served(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:  # noqa: F811
    monkeypatch.setattr(transformers.utils.hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    make_vit(tmp_path / "vit")
    facts = {"size": 32, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4] * 3}
    (tmp_path / "vit/preprocessor_config.json").write_text(json.dumps(facts))
    hub.files = {f"{REPO}/{file.name}": file.read_bytes() for file in (tmp_path / "vit").iterdir()}
    return hub


def test_a_name_on_the_hub_is_a_whole_model(served: Hub) -> None:
    backbone = build_backbone(TransformersOptions(arch=REPO), None)
    expected = zoo.InputSpec((32, 32), (0.1, 0.2, 0.3), (0.4, 0.4, 0.4), "bilinear", 1.0)
    assert backbone.input == expected
    file = build(TransformersWeightsOptions(path=REPO), weights_request(backbone.native, None))
    assert (file.input, file.architecture) == (expected, "transformers/vit")
    assert file.path.read_bytes() == served.files[f"{REPO}/model.safetensors"]
    assert len(file.rename) > 0


def test_weights_that_the_hub_has_not_are_refused(served: Hub) -> None:
    native = build_backbone(TransformersOptions(arch=REPO), None).native
    del served.files[f"{REPO}/model.safetensors"]
    with pytest.raises(zoo.ZooError) as caught:
        build(TransformersWeightsOptions(path=REPO), weights_request(native, None))
    assert str(caught.value) == (
        f"there is no model.safetensors in '{REPO}'\n"
        "  where: [weights] path\n"
        "  mend:  save the model with save_pretrained"
    )
