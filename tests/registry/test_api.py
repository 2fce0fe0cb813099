"""The handshake: a plugin for another API is refused in one line each, and is not imported."""

import subprocess
import sys
import zipfile

import pytest

import zoo
from tests.registry.fakes import head, install
from zoo.registry.discovery import discover, entry_point_candidates
from zoo.registry.doctor import examine

REFUSED = [
    ("1.3", "built for zoo's plugin API 1.3, this zoo has 1.0: pip install -U zoo-finetune"),
    ("v2_0", "built for zoo's plugin API 2.0, this zoo has 1.0: pip install -U zoo-finetune"),
    ("v0_9", "built for zoo's plugin API 0.9, which this zoo (1.0) no longer has: pip install -U zoo-a"),
    ("newest", "says 'newest' for zoo's plugin API, which is no version such as v1_0"),
    ("v1", "says 'v1' for zoo's plugin API, which is no version such as v1_0"),
]


def load(folder, said):
    """A plugin that must not be imported when it is refused; what becomes of it."""
    source = "import sys\nsys.modules['zoo_test_api_was_imported'] = sys\n" + head("mine")
    install(folder, "zoo-a", {"a": "zoo_test_api_a"}, api=said, zoo_test_api_a=source)
    mine = [one for one in entry_point_candidates() if one.owner.distribution == "zoo-a"]
    return discover(mine)[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("zoo_test_api_a", "zoo_test_api_was_imported"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("said", "reason"), REFUSED)
def test_another_api_is_refused_without_an_import(said, reason, folder):
    plugin = load(folder, {"a": said})
    assert (plugin.state, plugin.reason, plugin.parts) == ("broken", reason, ())
    assert "zoo_test_api_was_imported" not in sys.modules


@pytest.mark.parametrize("said", ["v1_0", "1.0"])
def test_the_same_api_is_taken_in_both_spellings(said, folder):
    plugin = load(folder, {"a": said})
    assert (plugin.state, plugin.api, [part.name for part in plugin.parts]) == ("ok", said, ["mine"])
    assert examine([plugin]) == []


def test_one_that_does_not_say_is_used_and_named(folder):
    plugin = load(folder, {})
    assert (plugin.state, plugin.api) == ("ok", None)
    (finding,) = examine([plugin])
    assert (finding.trouble, finding.mend, finding.fails) == (
        "does not say which plugin API it was built for; it is used",
        'its author adds [project.entry-points."zoo.api"] with a = "v1_0"',
        False,
    )


def test_zoo_says_its_own():
    assert zoo.API == "1.0"


PROJECT = """\
[build-system]
requires = []
build-backend = "{backend}"
[project]
name = "zoo-made"
version = "1.0"
[project.entry-points.zoo]
made = "made"
[project.entry-points."zoo.api"]
made = "v1_0"
{more}
"""
BACKENDS = {
    "hatchling": ("hatchling.build", "[tool.hatch.build.targets.wheel]\npackages = ['made.py']"),
    "setuptools": ("setuptools.build_meta", "[tool.setuptools]\npy-modules = ['made']"),
}


@pytest.mark.parametrize("name", BACKENDS)
def test_builders_take_the_entry_point(name, tmp_path):
    pytest.importorskip(name)
    backend, more = BACKENDS[name]
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(backend=backend, more=more))
    (tmp_path / "made.py").write_text(head("made"))
    code = f"import {backend} as backend; print(backend.build_wheel('dist'))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("zoo_made-1.0.dist-info/entry_points.txt").decode()
    assert "[zoo.api]\nmade = v1_0\n" in f"{text}\n"
