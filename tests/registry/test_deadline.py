"""A plugin that takes long is set aside and goes on; what it prints and warns of is not the command's."""

import sys
import time
import warnings
from threading import Event

import pytest

from zoo.errors import PluginError
from zoo.registry import HeadPart, deadline, hookimpl, kinds, load_registry
from zoo.registry.discovery import Candidate, Owner, discover


class Offer:
    @hookimpl
    def zoo_heads(self):
        return [HeadPart("late", build="a:b")]


def candidate(load, name="p"):
    return Candidate(Owner(f"dist-{name}", "1.0", name), load)


@pytest.fixture
def held():
    """Plugins whose import ends when the event is set; it is set at the end in any case."""
    event = Event()

    def load():
        event.wait(30)
        return Offer

    yield event, load
    event.set()


def test_a_slow_one_is_set_aside_and_costs_nobody_else(held):
    _, load = held
    started = time.monotonic()
    slow, good = discover([candidate(load), candidate(lambda: Offer, "good")])
    assert deadline.PATIENCE <= time.monotonic() - started < deadline.PATIENCE + 1
    assert (slow.state, slow.parts, good.state) == ("slow", (), "ok")
    assert slow.reason == "its import has not ended after 0.5 s, and goes on; whoever needs it waits for it"
    assert slow.mend == "report this to the author of dist-p; until then -p no:p"


def test_the_patience_is_for_all_of_them_together(held):
    _, load = held
    started = time.monotonic()
    found = discover([candidate(load, f"p{index}") for index in range(6)])
    assert time.monotonic() - started < deadline.PATIENCE + 5 * deadline.LEAST + 1
    assert [plugin.state for plugin in found] == ["slow"] * 6


def test_its_parts_count_when_it_has_come(held):
    event, load = held
    registry = load_registry(candidates=[candidate(load)])
    assert [owned.part.name for owned in registry.parts(kinds.HEAD)] == ["linear"]
    event.set()
    assert str(registry.find(kinds.HEAD, "late").owner) == "p (dist-p 1.0)"
    assert [plugin.state for plugin in registry.plugins] == ["ok", "ok"]
    assert [owned.part.name for owned in registry.parts(kinds.HEAD)] == ["late", "linear"]


class Double:
    @hookimpl
    def zoo_heads(self):
        return [HeadPart("linear", build="a:b")]


def test_one_that_comes_later_takes_nothing_from_a_run_that_has_begun():
    event = Event()

    def load():
        event.wait(30)
        return Double

    registry = load_registry(candidates=[candidate(load)])
    assert registry.find(kinds.HEAD, "linear").owner.plugin == "zoo"
    event.set()
    assert [plugin.awaited().state for plugin in registry.found] == ["ok", "ok"]
    assert [str(owned.owner) for owned in registry.parts(kinds.HEAD)][1:] == ["p (dist-p 1.0)"]
    assert registry.find(kinds.HEAD, "linear").owner.plugin == "zoo"


def test_a_name_that_nobody_has_waits_for_it_and_says_so(held, monkeypatch, capsys):
    _, load = held
    for name, seconds in (("TELL_AFTER", 0.05), ("LONGEST", deadline.PATIENCE + 1)):
        monkeypatch.setattr(deadline, name, seconds)
    registry = load_registry(candidates=[candidate(load)])
    assert registry.find(kinds.HEAD, "linear").owner.plugin == "zoo"
    assert capsys.readouterr().err == ""
    with pytest.raises(PluginError) as caught:
        registry.find(kinds.HEAD, "late")
    assert str(caught.value) == (
        "there is no head 'late'\n  mend:  one of: linear; not loaded: p (dist-p 1.0) (see `zoo plugins`)"
    )
    assert capsys.readouterr().err == "waiting for the plugin p (dist-p 1.0), up to 1 s: Ctrl-C stops\n"
    started = time.monotonic()
    with pytest.raises(PluginError):
        registry.find(kinds.HEAD, "later")
    assert time.monotonic() - started < 0.5


def test_what_it_prints_goes_to_standard_error_also_when_it_is_late(held, capsys):
    event, _ = held
    done = Event()

    def load():
        print("early")
        event.wait(30)
        print("late")
        done.set()
        return Offer

    before = sys.stdout
    discover([candidate(load)])
    print("mine")
    event.set()
    done.wait(30)
    assert tuple(capsys.readouterr()) == ("mine\n", "early\nlate\n")
    time.sleep(0.05)
    discover([candidate(lambda: Offer)])
    sys.stdout = before


def test_standard_output_is_as_it_was(capsys):
    before = sys.stdout
    discover([candidate(lambda: print("early") or Offer)])
    assert sys.stdout is before
    assert tuple(capsys.readouterr()) == ("", "early\n")


def test_a_warning_is_neither_failure_nor_noise_and_its_filters_stay(capsys):
    def load():
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        warnings.filterwarnings("ignore", message="of the plugin's library")
        return Offer

    with warnings.catch_warnings():
        (plugin,) = discover([candidate(load)])
        warnings.warn("of the plugin's library", stacklevel=1)
        with pytest.raises(UserWarning, match="another"):
            warnings.warn("another", stacklevel=1)
    assert (plugin.state, capsys.readouterr().err) == ("ok", "")
