import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from zoo.registry import BackbonePart, HeadPart, hookimpl, load_registry
from zoo.registry.discovery import Candidate, Owner, discover, entry_point_candidates


class Good:
    @hookimpl
    def zoo_heads(self):
        return [HeadPart("mine", build="a:b")]


class Misspelt:
    @hookimpl
    def zoo_haeds(self):
        return [HeadPart("mine", build="a:b")]


class WrongArgument:
    @hookimpl
    def zoo_heads(self, recipe):
        return []


class Raising:
    @hookimpl
    def zoo_heads(self):
        raise RuntimeError("no")


class RaisingLate:
    @hookimpl
    def zoo_heads(self):
        yield HeadPart("mine", build="a:b")
        raise RuntimeError("late")


class Exiting:
    @hookimpl
    def zoo_heads(self):
        sys.exit(3)


class WrongType:
    @hookimpl
    def zoo_heads(self):
        return ["linear"]


class WrongKind:
    @hookimpl
    def zoo_heads(self):
        return [BackbonePart("mine", build="a:b")]


class NotIterable:
    @hookimpl
    def zoo_heads(self):
        return HeadPart("mine", build="a:b")


class Twice:
    @hookimpl
    def zoo_heads(self):
        return [HeadPart("mine", build="a:b")] * 2


class BadName:
    @hookimpl
    def zoo_heads(self):
        return [HeadPart("1", build="a:b")]


def failing_import():
    raise ImportError("No module named 'torchh'")


def candidate(load, name="p", distribution="dist"):
    return Candidate(Owner(distribution, "1.0", name), load)


BROKEN = [
    (failing_import, "ImportError: No module named 'torchh'"),
    (lambda: exec("def"), "SyntaxError: invalid syntax (<string>, line 1)"),
    (lambda: Misspelt, "unknown hook 'zoo_haeds'"),
    (lambda: WrongArgument, "hook 'zoo_heads'"),
    (lambda: Raising, "RuntimeError: no"),
    (lambda: RaisingLate, "RuntimeError: late"),
    (lambda: Exiting, "SystemExit: 3"),
    (lambda: WrongType, "zoo_heads must give HeadPart objects, not str"),
    (lambda: WrongKind, "zoo_heads must give HeadPart objects, not BackbonePart"),
    (lambda: NotIterable, "zoo_heads must return an iterable of parts, not HeadPart"),
    (lambda: Twice, "offers the head 'mine' twice"),
    (lambda: BadName, "ValueError: '1' is not a part name"),
    (lambda: SimpleNamespace(), "offers no parts"),
]


@pytest.mark.parametrize(("load", "reason"), BROKEN)
def test_a_broken_plugin_is_quarantined_with_its_reason(load, reason):
    (plugin,) = discover([candidate(load)])
    assert plugin.state == "broken"
    assert plugin.parts == ()
    assert reason in plugin.reason


def test_broken_plugins_cost_nobody_else():
    candidates = [candidate(load, f"p{index}") for index, (load, _) in enumerate(BROKEN)]
    found = discover([*candidates, candidate(lambda: Good, "good")])
    assert [plugin.owner.plugin for plugin in found if plugin.state == "ok"] == ["good"]
    assert [part.name for part in found[-1].parts] == ["mine"]


WAITING = """\
import signal
import time
signal.signal(signal.SIGINT, signal.default_int_handler)
from zoo.registry import kinds, load_registry
from zoo.registry.discovery import Candidate, Owner
registry = load_registry(candidates=[Candidate(Owner("dist", "1.0", "p"), lambda: time.sleep(60))])
print("ready", flush=True)
registry.find(kinds.HEAD, "nobodys")
"""


def test_ctrl_c_ends_the_wait_for_a_slow_plugin():
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")


def test_a_plugin_that_raises_keyboardinterrupt_itself_is_broken():
    def load():
        raise KeyboardInterrupt("mine")

    (plugin,) = discover([candidate(load)])
    assert (plugin.state, plugin.reason) == ("broken", "KeyboardInterrupt: mine")


@pytest.mark.parametrize("name", ["p", "dist"])
def test_a_plugin_is_blocked_by_its_own_or_its_distributions_name(name):
    def load():
        raise AssertionError("a blocked plugin was imported")

    (plugin,) = discover([candidate(load)], blocked=[name])
    assert (plugin.state, plugin.reason) == ("blocked", "-p no:p")


def test_entry_points_are_found_without_installing(tmp_path, monkeypatch):
    for distribution, name in (("zoo-a", "same"), ("zoo-b", "same")):
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[zoo]\n{name} = {distribution[-1]}_plugin\n[console_scripts]\nx = y:z\n"
        )
    (tmp_path / "a_plugin.py").write_text(
        "import zoo.registry as z\n@z.hookimpl\ndef zoo_heads():\n    yield z.HeadPart('from-a', build='a:b')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = [found for found in entry_point_candidates() if found.owner.distribution in ("zoo-a", "zoo-b")]
    states = {plugin.owner.distribution: (plugin.state, plugin.reason) for plugin in discover(mine)}
    assert states == {"zoo-a": ("ok", ""), "zoo-b": ("broken", "ModuleNotFoundError: No module named 'b_plugin'")}


def test_zoos_own_parts_come_through_the_same_hooks():
    (plugin,) = load_registry(candidates=()).plugins
    assert (plugin.owner.plugin, plugin.state) == ("zoo", "ok")
    assert {part.kind.name for part in plugin.parts} == {
        "backbone", "head", "weights", "data", "freeze", "device", "export", "callback",
    }  # fmt: skip


def test_a_spoilt_entry_point_file_costs_nobody_anything(tmp_path, monkeypatch):
    info = tmp_path / "spoilt-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spoilt\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[console_scripts]\nno equals sign\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [found for found in entry_point_candidates() if found.owner.distribution == "spoilt"] == []
