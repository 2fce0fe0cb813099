"""The README's recipe, as it stands there: a run, and its bundle verified."""

import re
from pathlib import Path

import pytest
import zoo

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_recipe_runs_and_its_bundle_verifies(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(format = 1\n.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    result = zoo.finetune(
        zoo.load_recipe(path, sets=["data.workers=0", "device.precision=fp32", "run.epochs=1"]), tmp_path / "run"
    )
    assert [artefact.exporter for artefact in result.artefacts] == ["onnx"]
    outcomes = zoo.verify(tmp_path / "run" / "export")
    assert [outcome.runtime for outcome in outcomes] == ["onnxruntime"]
    assert all(outcome.ok and outcome.images for outcome in outcomes)
