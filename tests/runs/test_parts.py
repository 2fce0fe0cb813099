"""A run knows which distribution or file each of its parts came from: said at a repeat, held to at a resume."""

import json
import multiprocessing
import re
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

from tests.registry.fakes import install
from zoo import __version__
from zoo.files import sha256
from zoo.registry.owner import read_owners

PARTS = """\
from dataclasses import dataclass
from pathlib import Path

import zoo
from zoo import DataSource, NoOptions, Options


class MyOptions(Options):
    root: Path
    \"\"\"The folder.\"\"\"


@dataclass(frozen=True)
class MySplit:
    inner: object

    def __len__(self): return len(self.inner)
    def image(self, index): return self.inner.image(index)
    def target(self, index): return self.inner.target(index)
    def identity(self, index): return self.inner.identity(index)


def build(options, seed):
    from zoo.data.imagefolder import ImageFolderOptions, build as folder

    found = folder(ImageFolderOptions(root=options.root), seed)
    return DataSource(MySplit(found.train), MySplit(found.val), found.classes)


class Bell:
    @zoo.hookimpl
    def run_ended(self, event):
        print("rang")


def ring(options, folder):
    return Bell()


@zoo.hookimpl
def zoo_data_sources():
    return [zoo.DataPart("my-folder", build=f"{__name__}:build", options=MyOptions)]


@zoo.hookimpl
def zoo_backbones():
    from zoo.registry.builtin.backbones import TimmOptions

    return [zoo.BackbonePart("my-timm", build="zoo.backbones.timm:build", options=TimmOptions)]


@zoo.hookimpl
def zoo_callbacks():
    return [zoo.CallbackPart("bell", build=f"{__name__}:ring")]
"""
USE = ("--set", "data.use=my-folder", "--set", 'callback=[{use="bell"}]')


@pytest.fixture
def parts(tmp_path, monkeypatch, zoo):
    """A file of parts in the working folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "zoo_test_run_parts.py"
    path.write_text(PARTS)
    yield path
    sys.modules.pop("zoo_test_run_parts", None)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The same parts as a distribution of a version."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])

    def version(number):
        for old in (tmp_path / "site").glob("*.dist-info/*"):
            old.unlink()
        for old in (tmp_path / "site").glob("*.dist-info"):
            old.rmdir()
        install(tmp_path / "site", "zoo-a", {"a": "zoo_test_run_a"}, version=number, zoo_test_run_a=PARTS)

    yield version
    sys.modules.pop("zoo_test_run_a", None)


def digest(run):
    return read_owners(run)["data my-folder"].version


def test_a_run_records_who_offered_each_part(zoo, recipe, installed, tmp_path):
    installed("1.0")
    assert zoo("finetune", recipe, "--out", "run", *USE)[0] == 0
    owners = json.loads((tmp_path / "run/environment.json").read_text())["owners"]
    assert owners["callback bell"] == {"plugin": "a", "distribution": "zoo-a", "version": "1.0", "file": None}
    assert owners["backbone timm"] == {
        "plugin": "zoo", "distribution": "zoo-finetune", "version": metadata.version("zoo-finetune"), "file": None,
    }  # fmt: skip


def test_another_version_is_said_at_a_repeat_and_refused_at_a_resume(zoo, recipe, installed, tmp_path):
    installed("1.0")
    assert zoo("finetune", recipe, "--out", "run", *USE)[0] == 0
    _, out, _ = zoo("finetune", "run/recipe.toml", "--out", "same")
    assert "then" not in out
    before = (tmp_path / "run/environment.json").read_bytes()
    installed("1.1")
    status, out, _ = zoo("finetune", "run/recipe.toml", "--out", "again")
    assert status == 0
    assert re.findall(r"^plugins .*$", out, re.MULTILINE) == [
        "plugins      data my-folder: zoo-a 1.0 then, zoo-a 1.1 now",
        "plugins      callback bell: zoo-a 1.0 then, zoo-a 1.1 now",
    ]
    assert zoo("finetune", "--resume", "run", "--set", "run.epochs=3")[::2] == (
        2,
        "error: data my-folder is not the run's: zoo-a 1.0 then, zoo-a 1.1 now\n"
        "  where: run/environment.json\n  mend:  pip install zoo-a==1.0, or start a new run\n"
        "error: callback bell is not the run's: zoo-a 1.0 then, zoo-a 1.1 now\n"
        "  where: run/environment.json\n  mend:  pip install zoo-a==1.0, or start a new run\n"
        "2 errors\n",
    )
    assert (tmp_path / "run/environment.json").read_bytes() == before
    installed("1.0")
    assert zoo("finetune", "--resume", "run", "--set", "run.epochs=3")[0] == 0


@pytest.mark.parametrize("record", [None, "{}", "[]", '{"owners": {}}'], ids=["missing", "empty", "list", "no owners"])
def test_a_run_that_does_not_say_who_offered_its_parts_is_not_resumed(record, zoo, recipe, installed, tmp_path):
    installed("1.0")
    run, resume = tmp_path / "run", ("finetune", "--resume", "run", "--set", "run.epochs=2")
    assert zoo("finetune", recipe, "--out", "run", *USE, "--set", "run.epochs=1")[0] == 0
    spoil(run, record)
    why = "environment.json is missing or has no owners\n  where: run/environment.json\n  mend:  start a new run\n"
    assert zoo(*resume)[::2] == (
        2,
        f"error: it is not known which version of zoo-a gave the run its data my-folder: {why}"
        f"error: it is not known which version of zoo-a gave the run its callback bell: {why}"
        "2 errors\n",
    )


@pytest.mark.parametrize("record", [None, "{}"], ids=["missing", "empty"])
def test_a_run_of_zoos_parts_alone_is_resumed_without_its_record(record, zoo, recipe, tmp_path):
    assert zoo("finetune", recipe, "--out", "run", "--set", "run.epochs=1")[0] == 0
    spoil(tmp_path / "run", record)
    assert zoo("finetune", "run/recipe.toml", "--out", "again")[::2] == (0, "")
    assert zoo("finetune", "--resume", "run", "--set", "run.epochs=2")[::2] == (0, "")


def spoil(run, record):
    """Put `record` in the place of what the run recorded; nothing for None."""
    (run / "environment.json").unlink()
    if record is not None:
        (run / "environment.json").write_text(record)


def test_a_missing_distribution_is_named_with_its_version(zoo, recipe, installed):
    installed("1.0")
    assert zoo("finetune", recipe, "--out", "run", *USE)[0] == 0
    sys.path.pop(0)
    status, _, err = zoo("evaluate", "run")
    assert status == 2
    assert re.match(
        r"error: there is no data 'my-folder' here: it came from a \(zoo-a 1\.0\)\n"
        r"  where: run/recipe\.toml:\d+, key data\.use\n  mend:  pip install zoo-a==1\.0\b",
        err,
    )


def test_other_versions_of_zoo_and_torch_are_said_and_not_refused(zoo, recipe, tmp_path):
    assert zoo("finetune", recipe, "--out", "run")[0] == 0
    path = tmp_path / "run/environment.json"
    told = json.loads(path.read_text())
    now = dict(told["versions"])
    told["versions"] |= {"torch": "1.0", "zoo-finetune": "0.0.1"}
    for owner in told["owners"].values():
        owner["version"] = "0.0.1"
    path.write_text(json.dumps(told))
    status, out, err = zoo("finetune", "--resume", "run", "--set", "run.epochs=3")
    assert (status, err) == (0, "")
    assert re.findall(r"^(?:versions|plugins) .*$", out, re.MULTILINE) == [
        f"versions     torch 1.0 then, {now['torch']} now",
        f"versions     zoo-finetune 0.0.1 then, {now['zoo-finetune']} now",
    ]


def test_a_file_of_parts_goes_with_its_run(zoo, recipe, parts, tmp_path):
    option = ("--plugin", "./zoo_test_run_parts.py")
    status, out, err = zoo("finetune", recipe, "--out", "run", *USE, "--set", "data.workers=1", *option)
    assert (status, err, "rang" in out) == (0, "", True)
    run = tmp_path / "run"
    copy = run / "plugins/zoo_test_run_parts.py"
    assert copy.read_text() == PARTS
    recorded = json.loads((run / "environment.json").read_text())
    short = digest(run)[:8]
    assert recorded["parts"]["callback bell"] == f"zoo_test_run_parts (./zoo_test_run_parts.py, sha256 {short})"

    for words in (["evaluate", "run"], ["export", "run"], ["predict", "run", "photos/val/above/00.png"]):
        status, _, err = zoo(*words)
        first = err.splitlines()
        assert status == 2
        assert first[0] == (
            "error: there is no data 'my-folder' here: "
            f"it came from zoo_test_run_parts (./zoo_test_run_parts.py, sha256 {short})"
        )
        assert first[2].startswith("  mend:  name it again: --plugin run/plugins/zoo_test_run_parts.py")
        assert zoo(*words, *option)[0] == 0


def test_a_bundle_names_the_file_that_its_parts_came_from(zoo, recipe, parts, tmp_path):
    option = ("--plugin", "./zoo_test_run_parts.py")
    assert zoo("finetune", recipe, "--out", "run", "--set", "backbone.use=my-timm", *option)[0] == 0
    owner = f"zoo_test_run_parts (./zoo_test_run_parts.py, sha256 {sha256(parts)[:8]})"
    shutil.copytree(tmp_path / "run/export", tmp_path / "moved")
    said = "error: there is no backbone 'my-timm'"
    for words in (["verify", "run/export"], ["predict", "run/export", "photos/val/above/00.png"]):
        status, _, err = zoo(*words)
        assert (status, err.splitlines()[0]) == (2, f"{said} here: it came from {owner}")
        assert "  mend:  name it again: --plugin run/plugins/zoo_test_run_parts.py" in err
        assert zoo(*words, *option)[0] == 0
    status, _, err = zoo("verify", "moved")
    zoo_itself = f"zoo (zoo-finetune {__version__})"
    assert (status, err.splitlines()[:2]) == (2, [said, f"  where: moved, of parts from {zoo_itself}, {owner}"])
    assert zoo("verify", "moved", *option)[0] == 0


def test_a_changed_file_is_said_at_a_repeat_and_refused_at_a_resume(zoo, recipe, parts, tmp_path):
    option = ("--plugin", "zoo_test_run_parts.py")
    assert zoo("finetune", recipe, "--out", "run", *USE, *option)[0] == 0
    then = digest(tmp_path / "run")[:8]
    parts.write_text(PARTS.replace("rang", "rang louder"))
    status, out, _ = zoo("finetune", "run/recipe.toml", "--out", "again", *option)
    now = digest(tmp_path / "again")[:8]
    assert (status, now != then, "rang louder" in out) == (0, True, True)
    assert (
        f"plugins      callback bell: zoo_test_run_parts.py sha256 {then} then, zoo_test_run_parts.py sha256 {now} now"
    ) in out.splitlines()
    status, _, err = zoo("finetune", "--resume", "run", "--set", "run.epochs=3", *option)
    assert (status, err.splitlines()[-4:]) == (
        2,
        [
            f"error: callback bell is not the run's: zoo_test_run_parts.py sha256 {then} then, "
            f"zoo_test_run_parts.py sha256 {now} now",
            "  where: run/environment.json",
            "  mend:  --plugin run/plugins/zoo_test_run_parts.py, or start a new run",
            "2 errors",
        ],
    )
    parts.unlink()
    sys.modules.pop("zoo_test_run_parts")
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]
    kept = ("--plugin", "run/plugins/zoo_test_run_parts.py")
    assert zoo("finetune", "--resume", "run", "--set", "run.epochs=3", *kept)[0] == 0


@pytest.mark.slow
def test_a_file_of_parts_holds_in_every_process(recipe, parts, tmp_path, monkeypatch):
    """Two processes, each with a loader process, where no installed plugin counts."""
    monkeypatch.setenv("ZOO_PLUGINS", "")
    sets = ("device.use=ddp", "device.devices=2", "data.workers=1", "run.epochs=1")
    options = [word for setting in sets for word in ("--set", setting)]
    words = ["finetune", str(recipe), "--out", "run", *USE, *options, "--plugin", parts.name]
    done = subprocess.run([sys.executable, "-m", "zoo", *words], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr, "2 processes" in done.stdout, "rang" in done.stdout) == (0, "", True, True)
    assert (tmp_path / "run/plugins/zoo_test_run_parts.py").read_text() == PARTS


@pytest.mark.slow
def test_a_file_of_parts_holds_in_a_loader_that_begins_as_a_new_python(zoo, recipe, parts):
    multiprocessing.set_start_method("spawn", force=True)
    try:
        options = ("--set", "data.workers=1", "--set", "run.epochs=1", "--plugin", parts.name)
        assert zoo("finetune", recipe, *USE, *options)[::2] == (0, "")
    finally:
        multiprocessing.set_start_method(None, force=True)
