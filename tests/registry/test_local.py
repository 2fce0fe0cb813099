"""A local file as a plugin: named, imported under its own name, known by its digest."""

import hashlib
import multiprocessing
import sys

import pytest

from tests.registry.fakes import head, install
from zoo.errors import PluginError
from zoo.registry import kinds, load_registry
from zoo.registry.local import LocalFile

SOURCE = head("mine") + "class Thing: pass\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "zoo_test_parts.py"
    path.write_text(SOURCE)
    yield path
    sys.modules.pop("zoo_test_parts", None)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_its_parts_are_there_and_are_the_files(file):
    registry = load_registry(candidates=(), files=["./zoo_test_parts.py"])
    owner = registry.find(kinds.HEAD, "mine").owner
    assert str(owner) == f"zoo_test_parts (./zoo_test_parts.py, sha256 {digest(file)[:8]})"
    assert (owner.version, owner.file) == (digest(file), file)
    assert registry.files == (LocalFile("./zoo_test_parts.py", file, digest(file), added=True),)


def test_it_is_not_picked_up_unless_it_is_named(file):
    assert "mine" not in [owned.part.name for owned in load_registry(candidates=()).parts(kinds.HEAD)]


def test_what_is_installed_in_its_folder_does_not_count(file, tmp_path):
    install(tmp_path, "zoo-near", {"near": "zoo_test_near"}, zoo_test_near=head("near"))
    names = [one.owner.distribution for one in load_registry(files=[file]).plugins]
    assert ("zoo-near" in names, str(file) in names) == (False, True)


def test_the_environment_does_not_leave_it_out_but_no_does(file, monkeypatch):
    monkeypatch.setenv("ZOO_PLUGINS", "")
    assert load_registry(files=[file]).find(kinds.HEAD, "mine").owner.file == file
    (plugin,) = [one for one in load_registry(["zoo_test_parts"], files=[file]).plugins if one.owner.file]
    assert (plugin.state, plugin.reason) == ("blocked", "-p no:zoo_test_parts")


def test_its_classes_stay_the_same_until_it_changes(file):
    load_registry(candidates=(), files=[file])
    before = sys.modules["zoo_test_parts"].Thing
    load_registry(candidates=(), files=[file])
    assert sys.modules["zoo_test_parts"].Thing is before
    file.write_text(SOURCE.replace("mine", "other"))
    assert load_registry(candidates=(), files=[file]).find(kinds.HEAD, "other")
    assert sys.modules["zoo_test_parts"].Thing is not before


def test_one_that_has_changed_since_another_process_read_it_is_refused(file):
    (looked_at,) = load_registry(candidates=(), files=["zoo_test_parts.py"]).files
    file.write_text(SOURCE + "\n")
    with pytest.raises(PluginError) as caught:
        load_registry(candidates=(), files=[looked_at])
    assert str(caught.value) == (
        f"zoo_test_parts.py has changed since it was read: sha256 {looked_at.sha256[:8]} then, {digest(file)[:8]} now\n"
        f"  where: {file}\n  mend:  put it back, or start again"
    )


def test_another_process_finds_its_classes_by_name(file):
    load_registry(candidates=(), files=[file])
    thing = sys.modules["zoo_test_parts"].Thing
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(isinstance, (thing(), thing)) is True


REFUSED = [
    ("nothing.py", "there is no Python file 'nothing.py'\n  mend:  --plugin FILE.py takes the parts of a file"),
    ("my-parts.py", "my-parts.py cannot be imported: 'my-parts' is no module's name\n  mend:  rename the file"),
    ("class.py", "class.py cannot be imported: 'class' is no module's name\n  mend:  rename the file"),
]


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_what_is_no_module_is_refused(file, name, message, tmp_path):
    if name != "nothing.py":
        (tmp_path / name).write_text(SOURCE)
    with pytest.raises(PluginError) as caught:
        load_registry(candidates=(), files=[name])
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["json", "pluggy", "colorsys", "sys"])
def test_a_name_of_another_module_is_refused(file, name, tmp_path):
    (tmp_path / f"{name}.py").write_text(SOURCE)
    with pytest.raises(PluginError) as caught:
        load_registry(candidates=(), files=[f"{name}.py"])
    assert str(caught.value).startswith(f"{name}.py cannot be imported: {name!r} is the name of another module\n")
    assert str(caught.value).endswith("\n  mend:  rename the file")


def test_a_package_beside_it_is_the_module_of_its_name(file, tmp_path):
    beside = tmp_path / "zoo_test_parts" / "__init__.py"
    beside.parent.mkdir()
    beside.write_text("")
    with pytest.raises(PluginError) as caught:
        load_registry(candidates=(), files=["zoo_test_parts.py"])
    assert str(caught.value) == (
        "zoo_test_parts.py cannot be imported: 'zoo_test_parts' is the name of another module\n"
        f"  where: {beside}\n  mend:  rename the file"
    )


def test_a_folder_beside_it_that_is_no_package_does_not_count(file, tmp_path):
    (tmp_path / "zoo_test_parts").mkdir()
    assert load_registry(candidates=(), files=[file]).find(kinds.HEAD, "mine")


def test_one_file_counts_once_however_it_is_named(file, tmp_path):
    (tmp_path / "link.py").symlink_to(file)
    names = ["zoo_test_parts.py", "./zoo_test_parts.py", file, "link.py"]
    registry = load_registry(candidates=(), files=names)
    assert registry.files == (LocalFile("zoo_test_parts.py", file, digest(file), added=True),)
    assert registry.find(kinds.HEAD, "mine").owner.distribution == "zoo_test_parts.py"


def test_what_cannot_be_looked_at_is_refused(file, tmp_path):
    (tmp_path / "round.py").symlink_to("round.py")
    for name, why in ((f"{'z' * 300}.py", "File name too long"), ("round.py", "its links go in a circle")):
        with pytest.raises(PluginError) as caught:
            load_registry(candidates=(), files=[name])
        assert str(caught.value) == f"cannot read '{name}': {why}\n  mend:  --plugin FILE.py takes the parts of a file"


IN_A_THREAD = [
    (
        "import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)\n",
        "ValueError: signal only works in main thread of the main interpreter",
    ),
    (
        "import asyncio\nasyncio.get_event_loop()\n",
        "RuntimeError: There is no current event loop in thread 'plugin zoo_test_parts'.",
    ),
]


@pytest.mark.parametrize(("source", "reason"), IN_A_THREAD, ids=["signal", "asyncio"])
def test_what_only_works_in_the_main_thread_is_told_where_it_belongs(file, source, reason):
    file.write_text(source)
    (plugin,) = [one for one in load_registry(candidates=(), files=[file]).plugins if one.owner.file]
    assert (plugin.state, plugin.reason, plugin.where, plugin.mend) == (
        "broken",
        reason,
        f"{file}:2",
        "mend the file: zoo imports plugins in a thread, so it must do this when a part is built, not at import",
    )


def test_a_broken_one_is_named_with_its_line(file):
    file.write_text("import zoo\n1 / 0\n")
    (plugin,) = [one for one in load_registry(candidates=(), files=[file]).plugins if one.owner.file]
    assert (plugin.state, plugin.reason, plugin.where, plugin.mend) == (
        "broken",
        "ZeroDivisionError: division by zero",
        f"{file}:2",
        "mend the file",
    )
    assert "zoo_test_parts" not in sys.modules
