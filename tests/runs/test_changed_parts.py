"""A network and its data come from the same version of a plugin whenever a run is opened again."""

import pytest

from tests.runs.test_parts import USE, installed

__all__ = ["installed"]  # the fixture


@pytest.mark.parametrize("verb", ["evaluate", "export"])
def test_a_changed_plugin_is_refused_when_the_run_is_opened(verb, zoo, recipe, installed, tmp_path):
    installed("1.0")
    assert zoo("finetune", recipe, "--out", "run", *USE)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "export").rglob("*") if path.is_file()}
    installed("1.1")
    assert zoo(verb, "run")[::2] == (
        2,
        "error: data my-folder is not the run's: zoo-a 1.0 then, zoo-a 1.1 now\n"
        "  where: run/environment.json\n  mend:  pip install zoo-a==1.0, or start a new run\n",
    )
    assert {path: path.read_bytes() for path in before} == before
    installed("1.0")
    assert zoo(verb, "run")[0] == 0
