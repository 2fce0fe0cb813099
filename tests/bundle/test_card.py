"""README.md: its Python answers as the model did on every golden image, where zoo cannot be imported."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.made import formats, write
from tests.bundle.photos import KINDS, photos
from zoo.bundle.card import write_card
from zoo.bundle.manifest import Artefact, read_manifest
from zoo.bundle.replay import COARSE, REPLAY
from zoo.registry.contracts import InputSpec

DRIVER = """\
import json, os, sys, warnings

sys.modules["zoo"] = None
warnings.simplefilter("ignore")
for folder, blocks in json.load(sys.stdin):
    os.chdir(folder)
    print("#", folder)
    names = {}
    for block in blocks:
        exec(block, names)
try:
    import zoo
except ImportError:
    print("# without zoo")
"""


def blocks(bundle: Path) -> list[str]:
    """Return the card's Python, with a golden image where somebody's photo stands."""
    text = (bundle / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return [block.replace('"photo.jpg"', '"golden/tall.png"') for block in found]


def run(*bundles: Path) -> str:
    """Run the cards' Python in one process that has no zoo, and return what it prints."""
    given = json.dumps([[str(bundle), blocks(bundle)] for bundle in bundles])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=given, capture_output=True, text=True, env=environment, cwd="/", timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def check(bundles: dict[Path, int]) -> None:
    """Check that every card says a class and then "ok" for each golden image of each artefact, so many a bundle."""
    said = run(*bundles).splitlines()
    assert said.pop() == "# without zoo"
    expected = []
    for bundle, artefacts in bundles.items():
        table = json.loads((bundle / "golden/expected.json").read_text(encoding="utf-8"))
        expected += [f"# {bundle}"]
        for _ in range(artefacts):
            expected += ["CLASS", *(f"{image['file']} ok" for image in table["images"])]
    found = [re.sub(r" \S+ ok$", " ok", line) for line in said]
    assert [line if line not in ("leaf", "sky", "stone") else "CLASS" for line in found] == expected


NATIVE = ("safetensors", "pth", ("safetensors", {"dtype": "float16"}))
GRAPH = ("torchscript", ("torchscript", {"preprocess": True}))


def test_the_python_runs_without_zoo_for_every_library(tmp_path, registry) -> None:
    one, two, three, four = (tmp_path / name for name in ("timm", "torchvision", "vit", "near"))
    split = photos(8, "jpeg", "turned", "rgba", "16 bits", "grey", "palette", "turned png", "cmyk")
    write(one, formats(registry, *NATIVE, *GRAPH), split=split)
    write(two, formats(registry, "safetensors"), "torchvision/resnet18", InputSpec((32, 48)), photos(2))
    write(three, formats(registry, "hub"), "timm/test_vit", InputSpec((48, 32), interpolation="lanczos"), photos(2))
    write(four, formats(registry, "pth"), spec=InputSpec((32, 32), interpolation="nearest"), split=photos(6, *KINDS))
    check({one: 5, two: 1, three: 1, four: 1})


@pytest.mark.slow
def test_the_python_runs_without_zoo_for_every_interpolation_and_graph(tmp_path, registry) -> None:
    bundles = {}
    for interpolation in ("nearest", "bilinear", "bicubic", "lanczos"):
        for size in ((32, 32), (32, 48), (48, 32)):
            folder = tmp_path / f"{interpolation}-{size[0]}-{size[1]}"
            spec = InputSpec(size, interpolation=interpolation, crop_pct=0.9)
            write(folder, formats(registry, "safetensors"), spec=spec, split=photos(8, *list(KINDS)[size[0] // 8 :]))
            bundles[folder] = 1
    write(tmp_path / "graphs", formats(registry, "pt2", ("pt2", {"preprocess": True})))
    check({**bundles, tmp_path / "graphs": 2})


CARD = """\
---
pipeline_tag: image-classification
library_name: timm
license: apache-2.0
tags: [image-classification, zoo]
---

# tiny

timm/test_resnet, fine-tuned to 3 classes (leaf, sky, stone). Validation: val/accuracy 0.75.

Licence of the base weights: Apache-2.0. The images that it was trained on have their own.

## Where it comes from

| from | what | sha256 |
|---|---|---|
| base weights | file x.pth | `aaaaaaaaaaaa` |
"""


def test_the_card_begins_with_what_the_hub_shows(tmp_path, registry) -> None:
    write(tmp_path / "bundle", formats(registry, "safetensors"))
    text = (tmp_path / "bundle/README.md").read_text(encoding="utf-8")
    assert text.startswith(CARD)
    assert text.endswith("```\n")


def test_nothing_known_is_said_to_be_unknown_and_many_classes_are_cut_short(tmp_path, registry) -> None:
    write(tmp_path / "bundle", formats(registry, "safetensors"), licence=None, metrics={"train/loss": 1.0}, base=None)
    manifest = read_manifest(tmp_path / "bundle")
    text = write_card(manifest.model_copy(update={"classes": [f"c{place}" for place in range(12)]}), [""])
    assert "license: unknown\n" in text
    assert "\n\ntimm/test_resnet, fine-tuned to 12 classes (c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, …).\n\n" in text
    assert "Licence of the base weights: not stated." in text
    assert "| base weights | none |" in text


def test_what_takes_zoo_is_said_so(tmp_path, registry) -> None:
    write(tmp_path / "bundle", formats(registry, "safetensors"))
    text = write_card(read_manifest(tmp_path / "bundle"), [""])
    said = "Put it together with the base weights: `zoo weights apply model.safetensors model.safetensors`."
    assert text.endswith(f"### model.safetensors (timm)\n\n{said}\n")


@pytest.mark.parametrize(("accuracy", "tolerance"), [(None, REPLAY), (0.75, COARSE)])
def test_the_check_allows_what_verify_allows(tmp_path, registry, accuracy: Any, tolerance: float) -> None:
    write(tmp_path / "bundle", formats(registry, "safetensors"))
    manifest = read_manifest(tmp_path / "bundle")
    rounded: Artefact = manifest.artefacts[0].model_copy(update={"accuracy": accuracy})
    text = write_card(manifest.model_copy(update={"artefacts": [rounded]}), ["network = None"])
    assert f'"ok" if difference <= {tolerance} else "DIFFERENT"' in text
