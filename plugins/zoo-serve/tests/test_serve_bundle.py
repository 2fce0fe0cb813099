"""A bundle that zoo made, served: the answers are those of `zoo.load`."""

import pytest
import zoo
from serving import CLASSES, picture, serving
from zoo.cli.main import run

RECIPE = """\
format = 1
[run]
name = "tiny"
epochs = 1
[backbone]
use = "timm"
arch = "test_resnet"
[data]
use = "imagefolder"
root = "{root}"
image_size = 64
workers = 0
"""


@pytest.mark.slow
def test_a_bundle_of_zoo_export_is_served(tmp_path, monkeypatch):
    for name, colour in zip(CLASSES, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(10):
            (folder / f"{number}.png").write_bytes(picture(colour, (64 + number, 64)))
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(root=tmp_path / "photos"))
    monkeypatch.chdir(tmp_path)
    assert run(["finetune", str(recipe)]) == 0
    assert run(["export", "runs/tiny"]) == 0
    bundle = tmp_path / "runs" / "tiny" / "export"
    with serving(lambda: zoo.load(bundle, device="cpu")) as running:
        expected = zoo.load(bundle, device="cpu")(picture(), top=3).classes
        found = running.post(picture(), params={"top": 3}).json()["classes"]
    assert [(one["name"], pytest.approx(one["probability"], abs=1e-5)) for one in found] == list(expected)
