import subprocess
import sys
from typing import get_origin

import pytest

import zoo


@pytest.mark.parametrize("name", zoo.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(zoo, name)
    assert value.__doc__ or get_origin(value)  # an alias of a type has no docstring of its own


def test_what_is_not_public_is_not_there():
    with pytest.raises(AttributeError, match="^module 'zoo' has no attribute 'fintune'$"):
        zoo.fintune  # noqa: B018


def test_import_zoo_costs_nothing():
    code = (
        "import sys, zoo; print(sorted(name for name in sys.modules if name.startswith('zoo') or name == 'pydantic'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['zoo']\n"


def test_zoo_from_python(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    sets = [
        "backbone.arch=test_resnet",
        "weights={use='none'}",
        "freeze={use='head'}",
        "run.epochs=1",
        "data.image_size=16",
    ]
    sets += ["data.workers=0", "device.device=cpu", "device.precision=fp32", "device.channels_last=false"]
    recipe = zoo.load_recipe(root / "recipes/resnet50_cls.toml", sets=sets)
    result = zoo.finetune(recipe)
    assert result.ended.reason == "finished"
    assert result.artefacts[0].files[0].exists()
