"""The names read from the libraries' source are the names that the libraries list."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torchvision

from zoo.registry.builtin import architectures


def test_known_is_what_timm_lists() -> None:
    assert architectures.known("timm") == set(timm.list_models())


def test_known_is_what_torchvision_lists() -> None:
    assert architectures.known("torchvision") == set(torchvision.models.list_models(module=torchvision.models))


def test_known_imports_neither_library() -> None:
    code = (
        "import sys; from zoo.registry.builtin.architectures import known; known('timm'); known('torchvision');"
        "print([name for name in ('torch', 'torchvision', 'timm', 'numpy') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_known_reads_both_ways_to_register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "architecture_library" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").touch()
    (models / "some.py").write_text(
        '@register_model\ndef one(x):\n    pass\n\n@register_model(name="two")\n@other(\n  1)\ndef _two():\n    pass\n'
        "\n@register_model()\ndef three():\n    pass\n\ndef four():\n    pass\n"
    )
    (models / "detection").mkdir()
    (models / "detection" / "other.py").write_text("@register_model()\ndef five():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert architectures.known("architecture_library") == {"one", "two", "three"}


def test_require_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="resnet5") as caught:
        architectures.require("torchvision", "resnet5")
    assert str(caught.value) == (
        "torchvision has no architecture 'resnet5'; did you mean 'resnet50' or 'resnet152' or 'resnet34'?"
    )


def test_require_accepts_a_known_name() -> None:
    assert "resnet50" in architectures.known("timm")
    architectures.require("timm", "resnet50")


def test_require_accepts_anything_of_a_library_without_source() -> None:
    assert architectures.known("no_such_library_anywhere") == frozenset()
    architectures.require("no_such_library_anywhere", "resnet50")
